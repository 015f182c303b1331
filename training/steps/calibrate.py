"""`vae-train calibrate`: a bundle with new thresholds. Needs no PyTorch."""

from __future__ import annotations

from argparse import Namespace

from service.bundle import open_bundle
from service.errors import counted
from training.groups import groups_by
from training.output import PAGE, next_version
from training.parts import held_out
from training.recalibrate import recalibrate
from training.schema import Schema
from training.steps.reading import as_known
from training.steps.said import say
from training.steps.written import write_bundle


def run(options: Namespace) -> None:
    """The next version of a bundle, calibrated on these rows."""
    bundle = open_bundle(options.bundle)
    dataset = as_known(options, Schema.of(bundle.manifest))
    found = held_out(dataset, bundle.manifest)
    x = found.x
    model_dir = bundle.path.parent
    inputs, known = bundle.manifest.inputs, bundle.manifest.groups
    if options.groups is not None:
        groups = groups_by(options.groups, inputs, x)
    else:
        groups = None if known is None else groups_by(known.column, inputs, x, known)
    say(options, f"calibrating on {counted(len(x), 'row')}: {found.which}")
    made = recalibrate(bundle, next_version(model_dir), x, dataset.hash, options.threads, groups)
    write_bundle(options, model_dir, made)
    if PAGE in bundle.report:
        say(
            options, f"without {PAGE}, which shows the old thresholds: vae-train report makes one of rows not used here"
        )
