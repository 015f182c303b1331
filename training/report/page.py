"""
The page: what a section is made of, and the one HTML file that they become.

No script, no font, no asset from elsewhere; whatever a user has named is escaped. Knows nothing of models.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Literal

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

GENERATOR: Final = "vae-train report"
"""Named in the page's head: what carries it may be written over by another report."""

State = Literal["good", "watch", "plain"]


@dataclass(frozen=True)
class Verdict:
    """A sentence that a measurement allows. *state*: good, worth a look, or neither."""

    text: str
    state: State = "plain"


@dataclass(frozen=True)
class Key:
    """What a colour or a mark means, for the line above the figures. *name*: of a CSS variable."""

    name: str
    text: str
    mark: Literal["line", "dash", "dot", "cross", "area"] = "line"


@dataclass(frozen=True)
class Panel:
    """
    One figure, as HTML that is safe already.

    *size*: "small" ones stand side by side, as many as fit; "double" ones take the room of two; "wide" ones all of it.
    """

    html: Markup
    caption: str = ""
    size: Literal["small", "double", "wide"] = "small"


@dataclass(frozen=True)
class Cell:
    """One value of a table. *share*: 0 to 1, drawn as a bar; *tint*: -1 to 1, drawn as a colour; *words*: no number."""

    text: str
    share: float | None = None
    tint: float | None = None
    words: bool = False


@dataclass(frozen=True)
class Table:
    """A small table; the first column names the row. *after*: below the figures. *map*: its cells are colours."""

    head: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    strong: tuple[int, ...] = ()
    caption: str = ""
    after: bool = False
    map: bool = False


@dataclass(frozen=True)
class Section:
    """
    One question about the model, and its answer in words and figures.

    *look*: what to look for. *missing*: why there is no answer; then there are no figures.
    """

    id: str
    title: str
    look: str = ""
    verdicts: tuple[Verdict, ...] = ()
    keys: tuple[Key, ...] = ()
    panels: tuple[Panel, ...] = ()
    tables: tuple[Table, ...] = ()
    note: str = ""
    missing: str = ""


@dataclass(frozen=True)
class Tile:
    """One key figure."""

    label: str
    value: str
    unit: str = ""
    detail: str = ""


@dataclass(frozen=True)
class Head:
    """What is said first."""

    title: str
    subtitle: str
    tiles: tuple[Tile, ...]
    verdicts: tuple[Verdict, ...]
    facts: tuple[tuple[str, str], ...] = field(default=())


def render(head: Head, sections: tuple[Section, ...]) -> bytes:
    """The page as one HTML file in UTF-8."""
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    style = Markup((Path(__file__).parent / "page.css").read_text("utf-8"))
    page = environment.get_template("page.html.jinja")
    return page.render(head=head, sections=sections, style=style, generator=GENERATOR).encode()
