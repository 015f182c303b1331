"""`vae-train evaluate`: the figures of a bundle. Needs no PyTorch."""

from __future__ import annotations

import json
from argparse import Namespace

from service.bundle import open_bundle
from service.engine import Engine
from training import table
from training.errors import TrainingError
from training.evaluate import evaluate
from training.parts import held_out
from training.schema import Schema
from training.steps.reading import as_known
from training.steps.said import say


def run(options: Namespace) -> None:
    """The figures of a bundle on rows that it has not seen."""
    bundle = open_bundle(options.bundle)
    found = held_out(as_known(options, Schema.of(bundle.manifest)), bundle.manifest)
    if not len(found.x):
        raise TrainingError(f"{options.data}: there are no test rows: the bundle was fitted with --test 0")
    engine = Engine(bundle.graphs, threads=options.threads)
    if found.anomalies is None and (options.miss_cost or options.anomaly_share):
        raise TrainingError(f"{options.data}: --miss-cost and --anomaly-share need labelled anomalies; there are none")
    evaluation = evaluate(
        bundle,
        engine,
        found.x,
        found.anomalies,
        options.draws,
        options.seed,
        found.learned,
        anomaly_share=options.anomaly_share,
        miss_cost=options.miss_cost,
    )
    if options.json:
        options.json.write_text(json.dumps(evaluation, indent=1) + "\n")
    say(options, f"{bundle.path}: {found.which}", *table.sigmas(bundle.manifest), *table.lines(evaluation))
