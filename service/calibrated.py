"""
What a bundle is calibrated for: its scores, by kind, draws, group and share of missing values.

A part of the manifest's schema; and the names that the arrays of calibration.npz have.
"""

from __future__ import annotations

from typing import Annotated, Final, Literal
from urllib.parse import quote

from pydantic import Field

from service.inputs import Part

ScoreKind = Literal["nll", "neg_elbo", "reconstruction", "kl", "latent", "typicality", "fused"]

ALL: Final = "all"
"""The group of all rows."""

ALPHAS: Final = (0.1, 0.05, 0.01, 0.005, 0.001)
"""The usual ones, which thresholds are listed for."""

MIN_ALPHA: Final = 1e-9  # a billion calibration rows
Alpha = Annotated[float, Field(ge=MIN_ALPHA, lt=1)]


class Threshold(Part):
    """A row is anomalous at *alpha* when its score is greater than *threshold*, in nats."""

    alpha: Alpha = Field(description="the false-alarm rate aimed at, as a share of normal rows")
    threshold: float = Field(description="what a score must exceed, in nats")
    false_alarm_rate: tuple[float, float] = Field(
        description="lower and upper end of the central 90 % interval of the real rate"
    )


class Calibrated(Part):
    """One set of calibration scores in calibration.npz, and the usual thresholds read off it."""

    kind: ScoreKind = Field(description="the score")
    samples: int = Field(gt=0, description="K, the number of latent draws")
    group: str = Field(ALL, description="the rows that it is of: all, or one of groups.names")
    mask_bin: int = Field(0, ge=0, description="of rows with this share of missing values, by index; 0: none missing")
    rows: int = Field(gt=0, description="calibration rows")
    folds: tuple[Annotated[int, Field(ge=0)], ...] = Field(
        (),
        description="cross-conformal: how many of the rows each member of the ensemble has not seen and ranks, in "
        "order; none where no member has seen any of the rows",
    )
    thresholds: tuple[Threshold, ...] = Field(
        (), description="those of the usual alphas; of a group none are listed, a reply says what they are"
    )

    @property
    def key(self) -> str:
        """The name of its scores in calibration.npz. The group's is escaped: it may hold any character."""
        return f"scores/{self.kind}/{self.samples}/{quote(self.group, safe='=')}/{self.mask_bin}"

    @property
    def features_key(self) -> str:
        """The name of its per-feature scores in calibration.npz, where the kind has an explanation; not by group."""
        return f"features/{self.kind}/{self.samples}/{ALL}/{self.mask_bin}"

    @property
    def absent_key(self) -> str:
        """The name of what each feature adds to a normal row's score, (C,), where rows of this bin lack some."""
        return f"absent/{self.kind}/{self.samples}/{ALL}/{self.mask_bin}"

    @property
    def reference_key(self) -> str:
        """The name of what reference rows are like by which typicality and fused are measured, see reference.py."""
        return f"reference/{self.kind}/{self.samples}/{self.mask_bin}"


class Groups(Part):
    """
    Rows that are calibrated by themselves, by the value of one column: false-alarm rates hold within each group.

    Mondrian conformal prediction (Vovk et al. 2005, section 4.5).
    """

    column: str = Field(description="the column: categorical, ordinal, binary, or of whole numbers", examples=["site"])
    names: tuple[str, ...] = Field(
        min_length=1, description="of the groups, in the order of their values", examples=[["site=north", "site=south"]]
    )
    values: tuple[int, ...] | None = Field(
        None,
        description="of whole numbers, that of each group, ascending; null: 0, 1, 2 ..., as in a vocabulary",
        examples=[[2, 7]],
    )
    rows: tuple[int, ...] = Field(
        (),
        description="calibration rows of each; how many there are by score and mask bin is in calibrated",
        examples=[[120, 60]],
    )


class Scoring(Part):
    """What anomaly-score does when the caller does not say."""

    kind: ScoreKind = Field("nll", description="the score")
    samples: int = Field(16, gt=0, description="K, the number of latent draws")
    alpha: Alpha = Field(0.01, description="the false-alarm rate, as a share of normal rows")
