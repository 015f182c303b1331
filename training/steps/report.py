"""`vae-train report`: the page of a bundle. Needs no PyTorch."""

from __future__ import annotations

import json
from argparse import Namespace
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from pydantic import JsonValue

from service.bundle import Bundle, open_bundle
from service.engine import Engine
from training.errors import TrainingError
from training.evaluate import evaluate
from training.output import LOG
from training.parts import Unseen, held_out
from training.report.make import make, with_report
from training.report.material import Material, Record
from training.report.page import GENERATOR
from training.schema import Schema
from training.split import MOST_HELD_OUT
from training.steps.reading import as_known
from training.steps.said import say, warn
from training.thinning import thinned


def run(options: Namespace) -> None:
    """Make the page of a bundle again, from the rows that it has not seen."""
    bundle = open_bundle(options.bundle)
    output = options.output or bundle.path.parent / f"report-{bundle.manifest.version}.html"
    _require_ours(output)
    dataset = as_known(options, Schema.of(bundle.manifest))
    found = _few(held_out(dataset, bundle.manifest), options.seed)
    records = read_log(options.log) if options.log else _log_within(bundle)
    engine = Engine(bundle.graphs, threads=options.threads)
    evaluation: dict[str, JsonValue] = {}
    if len(found.x):
        evaluation = evaluate(bundle, engine, found.x, found.anomalies, options.draws, options.seed, found.learned)
    page = make(_material(bundle, engine, found, records, evaluation, options.seed))
    output.parent.mkdir(parents=True, exist_ok=True)
    part = output.with_name(f".{output.name}.tmp")
    part.write_bytes(page)
    part.replace(output)
    say(options, f"{bundle.path}: {found.which}", f"wrote {output}")


def reported(bundle: Bundle, found: Unseen, records: Sequence[Record], seed: int = 0, threads: int = 0) -> Bundle:
    """
    *bundle* with its page, made of the evaluation in its manifest.

    A picture must not cost a fitted model: whatever goes wrong is warned of by name, and the bundle has no page.
    """
    try:
        engine = Engine(bundle.graphs, threads=threads)
        return with_report(bundle, _material(bundle, engine, found, records, bundle.manifest.evaluation, seed))
    except Exception as error:
        warn(f"the bundle has no report, because making it failed: {type(error).__name__}: {error}")
        return replace(bundle, report={})


def read_log(path: Path) -> list[Record]:
    """The records of a fit's log, JSON lines. Raises TrainingError, naming the file and the line."""
    try:
        return _records(path.read_text("utf-8"), str(path))
    except (OSError, UnicodeDecodeError) as error:
        raise TrainingError(f"--log {path}: cannot be read: {error}") from None


def _log_within(bundle: Bundle) -> list[Record]:
    return _records(bundle.report[LOG].decode(), f"{bundle.path}/report/{LOG}") if LOG in bundle.report else []


def _records(text: str, source: str) -> list[Record]:
    found: list[Record] = []
    for number, line in enumerate(text.splitlines(), start=1):
        try:
            record = json.loads(line)
            found.append({**record, "epoch": int(record["epoch"])})
        except (ValueError, TypeError, KeyError, AttributeError):
            raise TrainingError(f"{source}: line {number} is not a record of an epoch, as fit logs them") from None
    return found


def _material(
    bundle: Bundle,
    engine: Engine,
    found: Unseen,
    records: Sequence[Record],
    evaluation: dict[str, JsonValue],
    seed: int,
) -> Material:
    return Material(bundle, engine, found.x, found.labels, found.anomalies, found.which, records, evaluation, seed)


def _few(found: Unseen, seed: int) -> Unseen:
    """At most as many rows as a split holds out: data that the bundle was not fitted to may be of any size."""
    if len(found.x) <= MOST_HELD_OUT:
        return found
    some = thinned(np.arange(len(found.x)), MOST_HELD_OUT, seed)
    labels = None if found.labels is None else found.labels[some]
    return replace(found, x=found.x[some], labels=labels, which=f"{MOST_HELD_OUT:,} rows drawn from {found.which}")


def _require_ours(output: Path) -> None:
    """Raise TrainingError where *output* is there and is not a report."""
    if output.is_dir() or (output.exists() and f'content="{GENERATOR}"'.encode() not in output.read_bytes()[:2000]):
        raise TrainingError(f"--output {output}: is there and is not a report; name another file")
