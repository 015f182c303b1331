"""A table of mixed columns with missing values, the whole way: fit, export, parity, calibration, evaluation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from service.bundle import Bundle, open_bundle
from service.engine import Engine
from tests.training.machines import COLUMNS, mixed_up, rows
from training.output import write
from training.ranking import auroc
from training.recalibrate import recalibrate
from training.scorer import run_scorer, scores_of

Floats = NDArray[np.float64]


def parts(bundle: Bundle, engine: Engine, x: Floats) -> Floats:
    """The part of each column in the score of complete rows: (n, C)."""
    feeds = {"x": x, "mask": np.ones(x.shape, bool), "eps": bundle.eps[:16]}
    nats: Floats = engine.run("scorer", feeds, ("feature_nll_iw",))["feature_nll_iw"].astype(np.float64)
    return nats


def test_a_mixed_table_becomes_a_bundle_that_proves_itself(machines: Bundle, tmp_path: Any) -> None:
    """Graphs agree with PyTorch on valid rows with any mask, golden vectors replay, every family is in the manifest."""
    write(tmp_path / "mixed", machines)
    Engine.open(open_bundle(tmp_path / "mixed"), threads=1)
    families = {part.family for part in machines.manifest.likelihood}
    known = {"gaussian", "categorical", "ordinal", "bernoulli", "negative-binomial", "discretised-logistic"}
    assert families == known
    golden = machines.golden["observe"]["x"].astype(np.float64)
    for c, column in enumerate(COLUMNS):
        if column.kind != "numeric":
            assert (golden[:, c] == np.round(golden[:, c])).all()
            assert golden[:, c].min() >= 0


class Watched(Engine):
    """Keeps how many rows each run had."""

    def run(self, graph: str, inputs: Mapping[str, Any], outputs: Sequence[str] | None = None) -> dict[str, Any]:
        """As any engine."""
        self.rows = [*getattr(self, "rows", []), len(inputs["x"])]
        return super().run(graph, inputs, outputs)


def test_a_run_of_many_rows_takes_the_levels_of_categories_into_account(machines: Bundle) -> None:
    """Each level is a number of the decoder: 20 columns of 40 levels are 8 times the memory of 100 numbers."""
    engine = Watched(machines.graphs, threads=1)
    x = np.tile(rows(1000, 8), (40, 1))
    levels = sum(len(column.vocabulary or ()) - 1 for column in COLUMNS if column.kind == "categorical")
    run_scorer(engine, machines.manifest.inputs, x, machines.eps[:16], ("log_w",))
    assert sum(engine.rows) == len(x)
    assert len(engine.rows) > 1
    assert max(engine.rows) * 16 * (len(COLUMNS) + levels) <= 2**22


def test_categories_that_do_not_fit_the_rest_are_found(machines: Bundle) -> None:
    """Each value is usual by itself: only the joint density knows. The explanation names the column."""
    engine = Engine(machines.graphs, threads=1)
    normal, strange = rows(300, 5), mixed_up(rows(300, 6))
    inside, outside = (scores_of(machines, engine, x)["nll"] for x in (normal, strange))
    assert auroc(inside, outside) > 0.9
    complete = strange[~np.isnan(strange).any(axis=1)]
    usual = normal[~np.isnan(normal).any(axis=1)]
    nats = [parts(machines, engine, x).mean(axis=0) for x in (complete, usual)]
    assert COLUMNS[int((nats[0] - nats[1]).argmax())].name == "mode"


def test_what_is_missing_is_expected_from_the_rest(machines: Bundle) -> None:
    """A missing mode is the most probable one at that speed; a missing count is a whole interval of counts."""
    engine = Engine(machines.graphs, threads=1)
    x = rows(500, 7, missing=0.0)
    x = x[np.abs((x[:, 0] - 1500) / 400) > 0.8]  # far enough from where the modes change
    mask = np.ones(x.shape, bool)
    mask[:, [1, 5]] = False
    got = engine.run("scorer", {"x": np.where(mask, x, 0), "mask": mask, "eps": machines.eps[:16]})
    assert (got["expected"][:, 1] == x[:, 1]).mean() > 0.9
    lower, upper = (got[name].astype(np.float64)[:, 5] for name in ("lower", "upper"))
    inside = (x[:, 5] >= lower) & (x[:, 5] <= upper)
    assert inside.mean() > 0.85


def test_false_alarms_hold_and_a_new_calibration_keeps_the_bins(machines: Bundle) -> None:
    """Four columns may be missing: bins up to 0.25, 0.5, 0.75 and 1, each evaluated by itself."""
    found: Any = machines.manifest.evaluation
    assert machines.manifest.mask_bins == (0.25, 0.5, 0.75, 1.0)
    assert {row["mask_bin"] for row in found["false_alarms"]} == {0, 1, 2, 3, 4}
    assert np.mean([row["inside"] for row in found["false_alarms"]]) > 0.6
    again = recalibrate(machines, 2, rows(200, 8), "1" * 64, threads=1)
    assert {e.key for e in again.manifest.calibrated} == {e.key for e in machines.manifest.calibrated}
