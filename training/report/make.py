"""The report of a bundle: which sections there are, in their order, and the bundle that carries them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace

from service.bundle import Bundle
from training.output import LOG, PAGE
from training.report.drawing import Inline, drawing
from training.report.images import Images
from training.report.latents import map_of, used
from training.report.learning import learning
from training.report.marginals import Marginals
from training.report.material import Material
from training.report.page import Section, render
from training.report.paths import norms, paths, prior
from training.report.peers import peers
from training.report.scores import scores
from training.report.summary import summary
from training.report.tables import Tables
from training.report.walks import Walks


def make(material: Material) -> bytes:
    """The page, UTF-8. The same material gives the same bytes."""
    with drawing():
        inline = Inline()
        sections = [learning(material, inline), scores(material, inline), peers(material), *_pictures(material, inline)]
        return render(summary(material), tuple(sections))


def with_report(bundle: Bundle, material: Material) -> Bundle:
    """*bundle* with the page of *material* in it, and with the log that the page shows."""
    files = {PAGE: make(material)}
    if material.records:
        files[LOG] = "".join(json.dumps(record) + "\n" for record in material.records).encode()
    return replace(bundle, report=files)


def _pictures(material: Material, inline: Inline) -> Sequence[Section]:
    image = material.manifest.inputs.kind == "image"
    by_row = Images(material) if image else Tables(material, inline)
    by_draw = by_row if isinstance(by_row, Images) else Marginals(material, inline)
    by_walk = Images(material) if image else Walks(material, inline)
    walks, latents = paths(material), material.manifest.latent.dim
    rebuilt = Section("reconstructions", "Reconstructions")
    drawn = prior(material, 64 if image else 2000)
    between = Section("interpolation", "Between two rows", verdicts=norms(walks, drawn))
    plane = Section("grid", "The latent plane")
    return (
        by_row.reconstructions(rebuilt)
        if len(material.rows)
        else replace(rebuilt, missing="there are no held-out rows"),
        by_draw.samples(Section("samples", "Samples"), drawn),
        used(material, inline),
        by_walk.traversals(Section("traversals", "What each latent means")),
        map_of(material, inline),
        by_walk.interpolations(between, walks),
        by_walk.grid(plane)
        if latents == 2 and material.manifest.latent.prior == "standard-normal"
        else replace(plane, missing="it is for models of two latents, with the prior N(0, I)"),
    )
