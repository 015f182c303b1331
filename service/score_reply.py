"""
The reply of anomaly-score as pydantic models: what OpenAPI documents of scores and of the rows that they are of.

As those of `replies`: it is written from arrays, `judged`, and never passes through these. Knows nothing of HTTP.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from service.calibrated import Alpha, ScoreKind
from service.replies import Absent, ModelId, Reply

Probability = Annotated[float, Field(ge=0, le=1)]
Rate = tuple[Probability, Probability]
Value = float | str


class _OwnThreshold(Reply):
    """A row that has a threshold of its own."""

    row: int = Field(ge=0, description="its index in the request, from 0", examples=[1])
    threshold: float | None = Field(
        description="what its score must exceed for is_anomaly, in nats; null when the calibration rows are too few",
        examples=[16.2],
    )
    false_alarm_rate: Rate | None = Field(
        description="lower and upper end of the central 90 % interval of this threshold's real rate; null with it",
        examples=[[0.0287, 0.071]],
    )


class MissingValues(_OwnThreshold):
    """A row with missing values: it is judged by calibration rows that miss about as many."""

    share: float = Field(
        gt=0, le=1, description="of the columns that may be missing: how many are, as a share", examples=[0.25]
    )


class GroupedRow(_OwnThreshold):
    """By which calibration rows a row is judged, where they are in groups: its p-value and its threshold are theirs."""

    group: str = Field(
        description="one of manifest.groups.names, or all where that row's group has too few calibration rows, or is "
        "not known (see reason)",
        examples=["site=north"],
    )
    reason: str | None = Field(
        description="why it is judged by all rows, and not by those of its group; null where it is",
        examples=["site=west has 12 calibration rows; alpha 0.05 needs 19"],
    )


class InvalidRow(Reply):
    """A row that could not be scored (`on_invalid: flag`)."""

    row: int = Field(ge=0, description="its index in the request, from 0")
    reason: str = Field(description="what is wrong with it")


class Explanation(Reply):
    """What one feature has to do with a score."""

    feature: str = Field(description='the column, or the index of the pixel ("3,5": row 3, column 5)')
    sensor: str | Absent = Field(None, description="of a window: the sensor", examples=["flow"])
    lag: Annotated[int, Field(ge=0)] | Absent = Field(
        None, description="of a window: how many readings before its last one", examples=[3]
    )
    nats: float = Field(description="this feature's part of the score, in nats; with the latent part they sum to it")
    p_value: Probability | None = Field(
        description="how rare so large a part is among the calibration rows, for this feature; null where the bundle "
        "does not know"
    )
    observed: Value = Field(description="the value in the row, in original units; a category by its name")
    expected: Value = Field(
        description="mean of p(x given z) over the row's draws, in original units; the most probable category"
    )
    interval: tuple[Value, Value] | None = Field(
        description="lower and upper end of the central 95 % of p(x given z), in original units; null for categories"
    )


class Window(Reply):
    """Which readings of the series a row is made of."""

    first: int = Field(ge=0, description="index of its first reading, from 0", examples=[4])
    last: int = Field(ge=0, description="index of its last reading", examples=[19])


class SensorPart(Reply):
    """What all readings of one sensor in a window have to do with its score."""

    sensor: str = Field(description="its name", examples=["pressure"])
    nats: float = Field(description="the parts of its readings together, in nats", examples=[41.7])
    excess: float | None = Field(
        description="how many nats they have above their medians among the calibration rows; null where the bundle "
        "does not know these",
        examples=[38.2],
    )


class Components(Reply):
    """The parts of the scores, one a row; null for a row that could not be scored."""

    reconstruction: list[float | None] = Field(description="-E[log p(x given z)], in nats: shape [n]")
    kl: list[float | None] = Field(description="KL(q(z given x) || p(z)), in nats: shape [n]")
    latent: list[float | None] = Field(
        description="the score less the parts of all features (see explain), in nats: shape [n]"
    )
    effective_samples: list[Annotated[float, Field(ge=0)] | None] = Field(
        description="of the K draws, by importance weight: shape [n], from 1 to K, or to M K of an "
        "ensemble of M models; near 1 where q fits the row badly"
    )


class AnomalyScoreReply(Reply):
    """Scores in nats, higher = more anomalous, and what they mean against the calibration rows."""

    model: ModelId
    kind: ScoreKind = Field(description="the score that was taken")
    samples: int = Field(gt=0, description="K, the latent draws of each score")
    alpha: Alpha = Field(description="the false-alarm rate aimed at, as a share of normal rows")
    threshold: float | None = Field(
        description="what the score of a complete row must exceed for is_anomaly, in nats, by the calibration rows of "
        "all groups; null when they are too few for alpha, and with cross-conformal calibration (see reason)"
    )
    false_alarm_rate: Rate | None = Field(
        description="lower and upper end of the central 90 % interval of the threshold's real false-alarm rate; null "
        "with the threshold"
    )
    scores: list[float | None] = Field(
        description="one a row, in nats, higher is more anomalous: shape [n]; null for a row that could not be scored"
    )
    p_values: list[Probability | None] = Field(
        description="(1 + calibration rows that score as high) / (1 + calibration rows): shape [n]; null with the score"
    )
    is_anomaly: list[bool | None] = Field(
        description="p <= alpha: shape [n]; null with the score, or where the calibration rows are too few (see reason)"
    )
    windows: list[Window] | Absent = Field(
        None,
        description="of each row, the readings that it is made of: shape [n]; there for models of windows",
        examples=[[{"first": 0, "last": 15}, {"first": 4, "last": 19}]],
    )
    fdr: Alpha | Absent = Field(
        None, description="the false-discovery rate of is_discovery; there with fdr", examples=[0.1]
    )
    adjusted_p_values: list[Probability | None] | Absent = Field(
        None,
        description="p-values adjusted for the rows of this request (Benjamini and Hochberg), the least fdr at which "
        "each is flagged: shape [n]; null with the score; there with fdr",
        examples=[[0.5978, 0.00738]],
    )
    is_discovery: list[bool | None] | Absent = Field(
        None,
        description="adjusted p <= fdr: shape [n]; null with the score; there with fdr",
        examples=[[False, True]],
    )
    least_discoveries: Annotated[int, Field(ge=1)] | Absent = Field(
        None,
        description="how many of these rows must score above all calibration rows before is_discovery can be true of "
        "any; there with fdr, where the calibration rows are not too few for any number",
        examples=[1],
    )
    reason: str | Absent = Field(
        None,
        description="why there is no threshold; there where there is none",
        examples=["alpha 0.001 needs 999 calibration rows; the bundle has 270"],
    )
    missing: list[MissingValues] | Absent = Field(
        None, description="the rows with missing values, and their own thresholds; there where there are any"
    )
    groups: list[GroupedRow] | Absent = Field(
        None,
        description="for each row that could be scored its group, and its own threshold; there where the bundle has "
        "groups (manifest.groups)",
    )
    invalid: list[InvalidRow] | Absent = Field(
        None, description="the rows that could not be scored; there with on_invalid = flag"
    )
    components: Components | Absent = Field(None, description="the parts of the scores; there with components = true")
    explanations: list[list[Explanation] | None] | Absent = Field(
        None,
        description="shape [n, E]: for each row the E observed features with the rarest parts, least p_value first and "
        "of equal ones most nats, fewer where fewer were observed, or null for a row that could not be scored; there "
        "with explain = E > 0",
    )
    sensors: list[list[SensorPart] | None] | Absent = Field(
        None,
        description="for each window the E sensors that surprise most, or all there are, most surprising first: shape "
        "[n, min(E, S)]; null for one that could not be scored; there with explain = E > 0 for models of windows",
    )
