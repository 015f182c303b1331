"""A report's page, read strictly, and what pages are made of in tests."""

from __future__ import annotations

from html.parser import HTMLParser
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from service.bundle import Bundle, open_bundle
from service.engine import Engine
from training.evaluate import evaluate
from training.report.material import Material, Record

Array = NDArray[np.generic]

SECTIONS = (
    *("learning", "scores", "baselines", "reconstructions", "samples", "latents", "traversals", "map"),
    *("interpolation", "grid", "made-of"),
)
VOID = {"meta", "img", "br", "link", "input", "hr"}


class Page(HTMLParser):
    """The page, read strictly: every element closed in its turn; what it says, refers to and leaves out."""

    def __init__(self, page: bytes) -> None:
        super().__init__()
        self.open: list[str] = []
        self.sections: list[str] = []
        self.ids: list[str] = []
        self.links: list[str] = []
        self.tags: set[str] = set()
        self.words: list[str] = []
        self.unnamed: list[str] = []
        self.feed(page.decode())
        self.close()
        assert self.open == []
        self.text = " ".join(" ".join(self.words).split())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        named = {name: value or "" for name, value in attrs}
        assert not any(name.startswith("on") for name in named)
        if tag not in VOID:
            self.open.append(tag)
        if "id" in named:
            self.ids.append(named["id"])
        if tag == "section":
            self.sections.append(named["id"])
        if tag in ("svg", "img") and not (named.get("alt") or named.get("aria-label")):
            self.unnamed.append(tag)
        self.links += [named[name] for name in ("href", "src", "xlink:href", "action") if name in named]

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self.open.pop()

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] != "style":
            self.words.append(data)


def opened(folder: Path) -> tuple[Bundle, Engine]:
    """The bundle in a folder, and what runs it."""
    bundle = open_bundle(folder)
    return bundle, Engine(bundle.graphs, threads=1)


def material(
    bundle: Bundle,
    engine: Engine,
    x: Array,
    anomalies: Array | None = None,
    labels: Array | None = None,
    records: tuple[Record, ...] = (),
    learned: tuple[Array, Array] | None = None,
) -> Material:
    """A bundle beside rows, evaluated."""
    found = evaluate(bundle, engine, x, anomalies, 4, learned=learned) if len(x) else {}
    return Material(bundle, engine, x, labels, anomalies, "some rows", records, found)


def epochs(count: int) -> tuple[Record, ...]:
    """What a fit of *count* epochs logs."""
    return tuple(
        {"epoch": n, "train_elbo": -9 / n, "validation_elbo": -10 / n, "reconstruction": -8 / n, "kl": 2 / n}
        | {"active_units": 2, "beta": min(1.0, n / 3), "learning_rate": 1e-3, "seconds": 0.1}
        for n in range(1, count + 1)
    )
