"""Groups: each row is judged by its own, or by all where that is too small, and the reply says by which."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tritonclient.http as triton
from numpy.typing import NDArray
from scipy import stats

from service import calibration
from service.bundle import Bundle, open_bundle
from service.calibrated import Calibrated, Groups
from service.codec.table import Table
from service.manifest import Manifest
from service.score_reply import AnomalyScoreReply
from tests.mixed import COLUMNS, NAMES, K, make_mixed, masked, mixed_rows
from tests.server import Server

NORTH, SOUTH, EAST, OTHER = GROUPS = ("site=north", "site=south", "site=east, or so", "site=other")
SITE, STARTS = NAMES.index("site"), NAMES.index("starts")
ROWS = {NORTH: 120, SOUTH: 60, EAST: 12}
"""Calibration rows of each group; of the last there are none."""

Json = dict[str, Any]


def calibration_rows() -> NDArray[np.float64]:
    """Those of the groups, one after the other."""
    rows = mixed_rows(sum(ROWS.values()), seed=7)
    rows[:, SITE] = np.repeat([0, 1, 2], [*ROWS.values()])
    return rows


@pytest.fixture(scope="module")
def bundle(mixed_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The table of tests/mixed.py in groups by its site."""
    groups = Groups(column="site", names=GROUPS, rows=tuple(ROWS.get(name, 0) for name in GROUPS))
    return make_mixed(tmp_path_factory.mktemp("models") / "mixed", calibration_rows(), groups, mixed_bundle)


@pytest.fixture(scope="module")
def opened(bundle: Path) -> Bundle:
    """Its parts."""
    return open_bundle(bundle)


@pytest.fixture(scope="module")
def server(bundle: Path) -> Iterator[Server]:
    """The service on it."""
    with Server(bundle) as running:
        yield running


def rows_of(*sites: float) -> NDArray[np.float64]:
    """Rows of these sites, NaN where it is missing."""
    x = mixed_rows(len(sites), seed=11)
    x[:, SITE] = sites
    return x


def ask(server: Server, x: NDArray[np.float64], **options: Any) -> Json:
    """The reply to rows as arrays; it must be as documented."""
    inputs = [[None if np.isnan(value) else value for value in row] for row in x.tolist()]
    reply = server.client.post("/v1/anomaly-score", json={"inputs": inputs, **options})
    assert reply.status_code == 200, reply.text
    found: Json = reply.json()
    AnomalyScoreReply.model_validate(found)
    return found


def scores_of(opened: Bundle, group: str, bin_: int = 0, kind: str = "nll") -> NDArray[np.float64]:
    """The calibration scores of a group."""
    entry = next(
        e for e in opened.manifest.calibrated if (e.kind, e.samples, e.group, e.mask_bin) == (kind, K, group, bin_)
    )
    return np.asarray(opened.calibration[entry.key], np.float64)


def test_each_row_is_judged_by_the_calibration_rows_of_its_group(server: Server, opened: Bundle) -> None:
    """p-value, threshold, its rate and the decision; threshold and rate beside alpha stay those of all groups."""
    reply = ask(server, rows_of(0, 1, 0, 1), alpha=0.05)
    all_ = scores_of(opened, "all")
    assert reply["threshold"] == calibration.threshold(all_, 0.05)
    for row, (told, group) in enumerate(zip(reply["groups"], (NORTH, SOUTH, NORTH, SOUTH), strict=True)):
        own = scores_of(opened, group)
        assert len(own) == ROWS[group]
        threshold = calibration.threshold(own, 0.05)
        assert threshold is not None
        assert told == {
            "row": row,
            "group": group,
            "threshold": pytest.approx(threshold),
            "false_alarm_rate": pytest.approx(calibration.false_alarm_rate(len(own), 0.05)),
            "reason": None,
        }
        score = reply["scores"][row]
        assert reply["p_values"][row] == calibration.p_values(own, np.array([score]))[0]
        assert reply["is_anomaly"][row] == (score > threshold) == (reply["p_values"][row] <= 0.05)
    assert "missing" not in reply


@pytest.mark.parametrize(
    ("site", "alpha", "reason"),
    [
        (2, 0.05, f"{EAST} has 12 calibration rows; alpha 0.05 needs 19"),
        (1, 0.01, f"{SOUTH} has 60 calibration rows; alpha 0.01 needs 99"),
        (3, 0.1, f"{OTHER} has no calibration rows"),
        (np.nan, 0.1, "site is missing"),
    ],
)
def test_a_row_whose_group_is_too_small_is_judged_by_all_and_told_why(
    server: Server, opened: Bundle, site: float, alpha: float, reason: str
) -> None:
    """Never silently: by all of its mask bin, with their threshold; the next row is judged by its own group."""
    reply = ask(server, rows_of(site, 0), alpha=alpha)
    told, own = reply["groups"]
    assert (told["group"], told["reason"]) == ("all", reason)
    assert (own["group"], own["reason"]) == (NORTH, None)
    all_ = scores_of(opened, "all", 1 if np.isnan(site) else 0)
    lacks = 0.0
    if np.isnan(site):
        lacks = float(opened.calibration[f"absent/nll/{K}/all/1"][SITE])
        assert reply["missing"][0]["threshold"] == told["threshold"]
    limit = calibration.threshold(all_, alpha)
    assert limit is not None
    assert told["threshold"] == pytest.approx(limit - lacks)
    assert reply["p_values"][0] == calibration.p_values(all_, np.array([reply["scores"][0] + lacks]))[0]
    small = ask(server, rows_of(2), alpha=0.1)["groups"][0]
    assert (small["group"], small["reason"]) == (EAST, None)  # 12 rows are enough for 0.1


def test_a_group_too_small_for_the_false_discovery_rate_is_judged_by_all(server: Server) -> None:
    """Its p-values could never be small enough, and no row of it would be found, silently."""
    told = ask(server, rows_of(1, 0), alpha=0.05, fdr=0.01)
    assert [row["group"] for row in told["groups"]] == ["all", NORTH]
    assert told["groups"][0]["reason"] == f"{SOUTH} has 60 calibration rows; fdr 0.01 needs 99"


@pytest.mark.parametrize("kind", ["nll", "typicality", "fused"])
def test_a_row_that_misses_values_is_judged_by_rows_of_its_group_that_miss_as_much(
    server: Server, opened: Bundle, kind: str
) -> None:
    """A cell of group and mask bin of its own; `missing` and `groups` tell the same threshold."""
    x = rows_of(0, 0, 1)
    x[1:, NAMES.index("speed")] = np.nan
    reply = ask(server, x, alpha=0.05, kind=kind)
    assert [row["group"] for row in reply["groups"]] == [NORTH, NORTH, SOUTH]
    assert [row["row"] for row in reply["missing"]] == [1, 2]
    for missing, told in zip(reply["missing"], reply["groups"][1:], strict=True):
        assert {**missing, "share": 0} == {
            "row": told["row"],
            "share": 0,
            "threshold": told["threshold"],
            "false_alarm_rate": told["false_alarm_rate"],
        }
        cell = scores_of(opened, told["group"], 1, kind)
        limit = calibration.threshold(cell, 0.05)
        assert limit is not None
        lacks = 0.0 if kind != "nll" else float(opened.calibration[f"absent/nll/{K}/all/1"][NAMES.index("speed")])
        assert told["threshold"] == pytest.approx(limit - lacks)
        p = calibration.p_values(cell, np.array([reply["scores"][told["row"]] + lacks]))[0]
        assert reply["p_values"][told["row"]] == pytest.approx(p)


def test_a_cell_of_group_and_bin_that_is_too_small_is_judged_by_all_of_the_bin(server: Server, opened: Bundle) -> None:
    """Not by the group's rows of another bin, whose scores are spread in another way."""
    x = masked(rows_of(1, 1, 1, 1), 3)
    x[:, SITE] = 1
    reply = ask(server, x, alpha=0.05)
    for told in reply["groups"]:
        bin_ = 3 if reply["missing"][told["row"]]["share"] > 0.5 else 2
        have = len(scores_of(opened, SOUTH, bin_))
        lacking = "calibration rows that lack about as many values; alpha 0.05 needs 19"
        wanted = (SOUTH, None) if have >= 19 else ("all", f"{SOUTH} has {have} {lacking}")
        assert (told["group"], told["reason"]) == wanted
    assert {told["group"] for told in reply["groups"]} == {"all", SOUTH}


def test_rows_that_could_not_be_scored_have_no_group(server: Server) -> None:
    """The others keep their places."""
    x = rows_of(0, 9, 1)
    reply = ask(server, x, alpha=0.05, on_invalid="flag")
    assert [row["row"] for row in reply["invalid"]] == [1]
    assert [(row["row"], row["group"]) for row in reply["groups"]] == [(0, NORTH), (2, SOUTH)]


def test_a_request_without_rows_that_can_be_scored_has_no_groups_to_tell(server: Server) -> None:
    """The list is there, and empty."""
    reply = ask(server, rows_of(9), alpha=0.05, on_invalid="flag")
    assert reply["groups"] == []
    assert reply["scores"] == [None]


def test_records_of_several_groups_are_found_together(server: Server, opened: Bundle) -> None:
    """The p-values of rows of several groups are adjusted together, by scipy's procedure of Benjamini and Hochberg."""
    x = np.concatenate([rows_of(*[0, 1] * 20), rows_of(3)])
    x[::4, NAMES.index("speed")] += 4000
    columns = {name: column.tolist() for name, column in Table(COLUMNS).columns(x).items()}
    records = [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]
    body = {"records": records, "alpha": 0.05, "fdr": 0.1}
    reply = server.client.post("/v1/anomaly-score", json=body).json()
    AnomalyScoreReply.model_validate(reply)
    assert [row["group"] for row in reply["groups"]] == [NORTH, SOUTH] * 20 + ["all"]
    p = np.empty(len(x))
    for group in (NORTH, SOUTH, "all"):
        rows = [row["row"] for row in reply["groups"] if row["group"] == group]
        p[rows] = calibration.p_values(scores_of(opened, group), np.array(reply["scores"])[rows])
    np.testing.assert_allclose(reply["p_values"], p)
    adjusted = stats.false_discovery_control(p, method="bh")
    np.testing.assert_allclose(reply["adjusted_p_values"], adjusted)
    assert reply["is_discovery"] == (adjusted <= 0.1).tolist()
    assert 0 < sum(reply["is_discovery"]) < len(x)
    m, smallest = len(x), np.sort([1 / 121] * 20 + [1 / 61] * 20 + [1 / 193])
    assert reply["least_discoveries"] == 1 + int(np.argmax(smallest * m / np.arange(1, m + 1) <= 0.1))


def test_whole_numbers_make_groups_and_a_value_of_none_is_told(mixed_bundle: Path, tmp_path: Path) -> None:
    """A number that no calibration row had is no group."""
    rows = mixed_rows(120, seed=7)
    rows[:, STARTS] = np.repeat([2, 7], 60)
    groups = Groups(column="starts", names=("starts=2", "starts=7"), values=(2, 7), rows=(60, 60))
    path = make_mixed(tmp_path / "starts", rows, groups, mixed_bundle)
    calibrated = open_bundle(path)
    x = rows_of(0, 0, 0)
    x[:, STARTS] = [7, 2, 5]
    with Server(path) as server:
        reply = ask(server, x, alpha=0.05)
        told = server.client.get("/v1/model").json()["manifest"]["groups"]
    assert told == {"column": "starts", "names": ["starts=2", "starts=7"], "values": [2, 7], "rows": [60, 60]}
    assert [(row["group"], row["reason"]) for row in reply["groups"]] == [
        ("starts=7", None),
        ("starts=2", None),
        ("all", "no group has this value of starts"),
    ]
    for row, group in enumerate(("starts=7", "starts=2", "all")):
        p = calibration.p_values(scores_of(calibrated, group), np.array(reply["scores"][row : row + 1]))
        assert reply["p_values"][row] == p[0]


def test_without_groups_nothing_is_told_of_them_and_the_rest_is_the_same(
    server: Server, mixed_bundle: Path, tmp_path: Path
) -> None:
    """Scores, the threshold of all and explanations do not depend on groups; p-values do."""
    x = rows_of(0, 1, 2, np.nan)
    with Server(make_mixed(tmp_path / "plain", calibration_rows(), like=mixed_bundle)) as plain:
        reply, grouped = (ask(one, x, alpha=0.05, explain=3) for one in (plain, server))
        listed = plain.client.get("/v2/models/anomaly-score").json()["outputs"]
    assert "groups" not in reply
    assert not [output["name"] for output in listed if output["name"].startswith("groups")]
    for field in ("threshold", "false_alarm_rate", "scores", "explanations"):
        assert reply[field] == grouped[field]
    assert reply["p_values"][2:] == grouped["p_values"][2:]  # east has too few rows, the last one no site
    assert reply["p_values"][:2] != grouped["p_values"][:2]


def test_tensors_say_the_same(server: Server) -> None:
    """Under /v2, as tensors that are there where the bundle has groups."""
    client = triton.InferenceServerClient(server.url.removeprefix("http://"))
    x = rows_of(0, 2)
    tensor = triton.InferInput("x", list(x.shape), "FP64")
    tensor.set_data_from_numpy(x)
    result = client.infer("anomaly-score", [tensor], parameters={"alpha": 0.05})
    said = ask(server, x, alpha=0.05)["groups"]
    assert [name.decode() for name in result.as_numpy("groups.group")] == [row["group"] for row in said]
    assert [text.decode() for text in result.as_numpy("groups.reason")] == [row["reason"] or "" for row in said]
    assert result.as_numpy("groups.row").tolist() == [0, 1]
    np.testing.assert_allclose(result.as_numpy("groups.threshold"), [row["threshold"] for row in said])
    listed = client.get_model_metadata("anomaly-score")["outputs"]
    assert {"groups.row", "groups.group", "groups.lower"} <= {output["name"] for output in listed}
    client.close()


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"column": "place"}, "groups are by 'place', which is no column"),
        ({"names": ["all", *GROUPS]}, "none may be 'all'"),
        ({"names": [*GROUPS, NORTH]}, "names of their own"),
        ({"names": [SOUTH, EAST, OTHER], "rows": [1, 2, 3]}, "the group 'site=north', which there is not"),
        ({"rows": [1]}, "4 groups need as many rows"),
        ({"values": [1, 2]}, "4 groups need as many rows, and values"),
        ({"values": [1, 2, 4, 3]}, "the values of groups do not ascend"),
        (None, "the group 'site=north', which there is not"),
    ],
)
def test_a_manifest_whose_groups_do_not_belong_together_is_refused(
    opened: Bundle, changes: Json | None, reason: str
) -> None:
    """Columns, names and calibration speak of the same."""
    document = opened.manifest.model_dump(mode="json")
    groups = None if changes is None else {**document["groups"], **changes}
    with pytest.raises(ValueError, match=reason):
        Manifest.model_validate({**document, "groups": groups})


def test_a_group_has_no_more_calibration_rows_than_all(opened: Bundle) -> None:
    """Whose scores are measured with the statistics of all."""
    document = opened.manifest.model_dump(mode="json")
    document["calibrated"] = [
        entry for entry in document["calibrated"] if (entry["group"], entry["mask_bin"]) != ("all", 2)
    ]
    with pytest.raises(ValueError, match="more calibration rows in 'site=north' than in 'all'"):
        Manifest.model_validate(document)


def test_a_group_may_be_called_anything() -> None:
    """The names of its arrays are the same characters in every archive; two groups have never one name."""
    names = ["site=a/0", "site=a%2F0", "site=\0", "site=é", "site= a"]
    keys = {Calibrated(kind="kl", samples=1, rows=1, group=name).key for name in names}
    assert len(keys) == len(names)
    assert all(key.isascii() and key.isprintable() and key.count("/") == 4 for key in keys)
