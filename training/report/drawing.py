"""
Drawing: matplotlib figures as inline SVG that takes its colours from the page, in light, dark and print.

Figures are small, so that a page can set them side by side or one below the other and letters stay legible. A colour
here is a token that becomes a CSS variable. Knows figures; nothing of models.
"""

from __future__ import annotations

import io
import itertools
import re
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from html import escape
from typing import Any, Final

import matplotlib as mpl
import numpy as np
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import PathPatch
from matplotlib.path import Path
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

Floats = NDArray[np.float64]

INK, MUTED, RULE, MODEL, DATA, ALARM = (f"#0b0b{i:02x}" for i in range(6))
CLASSES: Final = tuple(f"#0b0c{i:02x}" for i in range(10))
"""Ten colours that the colour-blind can tell apart (Petroff 2021), for classes."""

_VARIABLES = {INK: "ink", MUTED: "muted", RULE: "rule", MODEL: "model", DATA: "data", ALARM: "alarm"}
_VARIABLES |= {color: f"class{i}" for i, color in enumerate(CLASSES)}

_RC: Final[dict[Any, Any]] = {
    "svg.fonttype": "none",
    "text.parse_math": False,  # a column may be called $x$
    "axes.formatter.use_mathtext": False,
    "axes.formatter.limits": (-4, 5),
    "axes.unicode_minus": True,
    "font.family": "DejaVu Sans",  # comes with matplotlib: the same metrics everywhere
    "font.size": 8,
    "path.simplify": True,
}
_COORDINATES = re.compile(r'( (?:d|points|x|y|width|height|transform)=")([^"]*)"')
_DECIMALS = re.compile(r"(\.\d\d)\d+")
_NOT_NEEDED = tuple(
    re.compile(pattern, re.S)
    for pattern in (
        r"<metadata>.*?</metadata>",
        r"<defs>\s*<style.*?</style>\s*</defs>",  # it would style the page
        r" font-family: [^;\"]*;",
        r' transform="rotate\(-0 [^"]*"',
        r'(?<=<g) id="[^"]*"',
        r"\s*<g/>",
    )
)


@contextmanager
def drawing() -> Iterator[None]:
    """Within this, figures look as those of a report. Letters that a font lacks are the browser's business."""
    with mpl.rc_context(_RC), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing from", UserWarning)
        yield


def plot(
    title: str = "", x: str = "", y: str = "", *, width: float = 3.5, height: float = 2.3, left: float = 0.48
) -> tuple[Figure, Axes]:
    """A figure of *width* by *height* inches with one pair of axes. *left*: inches for the labels of the y axis."""
    figure = Figure(figsize=(width, height))
    figure.patch.set_visible(False)
    bottom, top = (0.37 if x else 0.22), (0.28 if title else 0.1)
    axes = figure.add_axes((left / width, bottom / height, 1 - (left + 0.12) / width, 1 - (bottom + top) / height))
    axes.patch.set_visible(False)
    fits = int((width - left - 0.05) * 72 / 5.7)  # letters, of the title's size
    axes.set_title(plain(title, fits), loc="left", color=INK, fontsize=8.5, pad=5, fontweight="bold")
    axes.set_xlabel(x, color=MUTED, fontsize=7.5, labelpad=2)
    axes.set_ylabel(y, color=MUTED, fontsize=7.5, labelpad=2)
    axes.tick_params(colors=MUTED, labelsize=7, length=0, pad=3)
    for side, spine in axes.spines.items():
        spine.set_visible(side in ("bottom", "left"))
        spine.set_color(RULE)
    axes.xaxis.set_major_locator(MaxNLocator(5, steps=[1, 2, 2.5, 5, 10]))
    axes.yaxis.set_major_locator(MaxNLocator(4, steps=[1, 2, 2.5, 5, 10]))
    for offset in (axes.xaxis.get_offset_text(), axes.yaxis.get_offset_text()):
        offset.set_color(MUTED)
        offset.set_fontsize(6.5)
    return figure, axes


def dots(axes: Axes, x: Floats, y: Floats, color: str, size: float = 2.5, alpha: float = 0.7) -> None:
    """Many points as one path of strokes without length and with round ends: small, and as sharp as the rest."""
    at = np.repeat(np.column_stack([x, y]), 2, axis=0)
    codes = np.tile(np.array([Path.MOVETO, Path.LINETO], np.uint8), len(x))
    path = Path(at, codes)
    path.should_simplify = False
    axes.add_patch(PathPatch(path, fill=False, edgecolor=color, linewidth=size, capstyle="round", alpha=alpha))


def crosses(axes: Axes, x: Floats, y: Floats, color: str, size: float = 3.0) -> None:
    """Points as crosses: a mark that differs from `dots` without its colour."""
    axes.plot(x, y, linestyle="none", marker="x", markersize=size, markeredgewidth=0.9, color=color, alpha=0.85)


def steps(axes: Axes, edges: Floats, heights: Floats, color: str, *, filled: bool = False) -> None:
    """A histogram's outline, or its area."""
    axes.stairs(heights, edges, color=color, fill=filled, alpha=0.3 if filled else 1.0, linewidth=1.4)


def within(axes: Axes, x: Sequence[float] | Floats, y: Sequence[float] | Floats, pad: float = 0.04) -> None:
    """Show the box of *x* and *y*, finite values of any size, and *pad* of it more; of a single value a little."""
    for values, limit in ((x, axes.set_xlim), (y, axes.set_ylim)):
        low, high = float(np.min(values)), float(np.max(values))
        room = (high - low) * pad if high > low else max(abs(high) * 0.05, 1e-12)
        limit(low - room, high + room)


def plain(text: str, most: int) -> str:
    """User text for a label: control characters out, and cut in its middle, since names often differ in their ends."""
    clean = "".join(c if c.isprintable() else " " for c in text)
    if len(clean) <= most:
        return clean
    end = (most - 1) // 2
    return f"{clean[: most - 1 - end]}\u2026{clean[len(clean) - end :]}"


class Inline:
    """Figures to SVG, each with identifiers of its own; the same figures in the same order give the same text."""

    def __init__(self) -> None:
        self._numbers = itertools.count()

    def __call__(self, figure: Figure, alt: str) -> Markup:
        """The figure as an element of the page; *alt* says what it shows."""
        out = io.StringIO()
        with mpl.rc_context({"svg.hashsalt": f"figure {next(self._numbers)}"}):
            figure.savefig(
                out,
                format="svg",
                transparent=True,
                metadata={"Date": None, "Creator": None, "Format": None, "Type": None},
            )
        text = out.getvalue()
        body = text[text.index("<svg") :]
        box = re.search(r'viewBox="[^"]*"', body)
        body = body[body.index(">") + 1 :]
        for pattern in _NOT_NEEDED:
            body = pattern.sub("", body)
        body = _COORDINATES.sub(lambda m: f'{m[1]}{_DECIMALS.sub(_two, m[2])}"', body)
        body = re.sub(r"\s*\n\s*", "\n", body)
        for color, name in _VARIABLES.items():
            body = body.replace(color, f"var(--{name})")
        label = escape(alt, quote=True)
        return Markup(f'<svg role="img" aria-label="{label}" {box[0] if box else ""}>{body}')


def _two(found: re.Match[str]) -> str:
    return found[1].rstrip("0").rstrip(".")
