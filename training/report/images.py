"""The pictures of an image model: reconstructions, samples, paths, traversals, the grid of two latents."""

from __future__ import annotations

from html import escape

import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray

from service.latent import normal_quantile
from training.report.material import Material
from training.report.page import Panel, Section, Verdict
from training.report.paths import Path
from training.report.sheets import Pixels, sheet
from training.report.wording import number, percent

Floats = NDArray[np.float64]

_ACROSS = 8
_MOST_STRIPS = 16
_STEPS = np.linspace(-2.5, 2.5, 11)


class Images:
    """Draws the sections of one image model."""

    def __init__(self, material: Material) -> None:
        self._material = material
        self._pixels = Pixels(material.manifest.inputs, material.rows)

    def reconstructions(self, section: Section) -> Section:
        """Originals above what the model makes of them: best, middle and worst by score, and anomalies."""
        material = self._material
        normal, strange = material.scores
        order = np.argsort(normal, kind="stable")
        middle = max(0, len(order) // 2 - _ACROSS // 2)
        groups = [
            ("The best explained", material.rows, order[:_ACROSS], normal),
            ("The median", material.rows, order[middle : middle + _ACROSS], normal),
            ("The worst explained", material.rows, order[::-1][:_ACROSS], normal),
        ]
        if len(strange):
            some = np.argsort(strange, kind="stable")[:: max(1, len(strange) // _ACROSS)][:_ACROSS]
            groups.append(("Labelled anomalies, from the least to the most strange", material.strange, some, strange))
        panels = []
        for title, rows, chosen, scores in groups:
            x = rows[chosen]
            pair = [self._pixels(x), self._pixels(material.expected(x)[0])]
            low, high = sorted((scores[chosen[0]], scores[chosen[-1]]))
            span = " to ".join(dict.fromkeys((number(low, 0), number(high, 0))))
            caption = f"{title}: {span} nats. Above: the data; below: the model."
            panels.append(Panel(sheet(pair, f"{title}: {len(x)} images above their reconstructions"), caption))
        look = (
            "Below each held-out image is what the model makes of it. The worst explained rows show where it fails: "
            "look "
            "for what they have in common."
        )
        x = material.rows.reshape(len(material.rows), -1).astype(np.float64)
        error = float(np.square(material.expected(material.rows)[0] - x).sum())
        rest = error / max(float(np.square(x - x.mean(axis=0)).sum()), 1e-300)
        verdict = Verdict(
            f"Reconstructions explain {percent(1 - rest)} of the pixels' variance around the average image."
        )
        return _with(section, look, panels, verdicts=(verdict,))

    def samples(self, section: Section, z: Floats) -> Section:
        """A sheet of decoded prior draws, beside one of held-out images."""
        material = self._material
        side = _ACROSS
        pictures = self._pixels(material.decode(z[: side * side]))
        panels = [
            Panel(sheet(_rows(pictures, side), "Images decoded from draws of the prior"), "Made up by the model.")
        ]
        if len(material.rows) >= side * side:
            real = self._pixels(
                material.rows[
                    np.sort(np.random.default_rng([material.seed, 11]).permutation(len(material.rows))[: side * side])
                ]
            )
            panels.append(Panel(sheet(_rows(real, side), "Held-out images"), "Held out, for comparison."))
        note = "Shown is the mean of p(x|z), as the service's sample gives it, without the noise of the pixels."
        if material.draws:
            drawn = self._pixels(material.draw(z[: side * side // 2], 14))
            words = "The upper half of them, each a draw of p(x|z): with the noise of the pixels."
            panels.insert(1, Panel(sheet(_rows(drawn, side), "Draws of images from the model"), words))
            note = "The service's sample answers with the mean of p(x|z), without the noise of the pixels."
        prior = "N(0, I)" if material.manifest.latent.prior == "standard-normal" else "that the model has learned"
        look = (
            f"Rows of the latent space drawn from the prior {prior} and decoded. They should look like the data: "
            "blurred ones are averages over what the latents do not carry, mixtures of two kinds come from the gaps "
            "between them."
        )
        return _with(
            section,
            look,
            panels,
            note,
        )

    def interpolations(self, section: Section, paths: list[Path]) -> Section:
        """For each pair of rows, the straight line above the great circle."""
        panels = []
        for path in paths:
            strips = [self._pixels(self._material.decode(walk)) for walk in (path.lerp, path.slerp)]
            alt = f"Images on the way from {path.start} to {path.stop}, straight above along the circle"
            caption = f"{path.start} to {path.stop}. Above: lerp; below: slerp."
            panels.append(Panel(sheet(strips, alt), caption))
        look = (
            "From one held-out image to another, in equal steps: above on a straight line (lerp), below on a great "
            "circle "
            "(slerp). A good latent space changes one into the other without passing through anything that is not an "
            "image."
        )
        return _with(section, look, panels)

    def traversals(self, section: Section) -> Section:
        """A strip for each latent: it moves, the others stay at 0."""
        material = self._material
        base, where = np.zeros(material.manifest.latent.dim), "0"
        if len(material.rows):  # a real row gives sharper pictures than the middle of the space
            row = int(np.argsort(material.scores[0], kind="stable")[len(material.rows) // 2])
            base, where = material.posterior[0][row], "those of the row with the median score"
        strips = []
        for j in material.order[:_MOST_STRIPS]:
            z = np.repeat(base[None], len(_STEPS), axis=0)
            z[:, j] = _STEPS
            picture = sheet([self._pixels(material.decode(z))], f"z{j} from {_STEPS[0]:g} to {_STEPS[-1]:g}")
            detail = f"{material.kl[j]:.2f} nats" if len(material.rows) else ""
            strips.append(f"<b>z{j}<small>{escape(detail)}</small></b>{picture}")
        look = (
            f"Each strip moves one latent from {number(_STEPS[0])} to {number(_STEPS[-1])} with all others at "
            f"{where}: what "
            "changes along a strip is what that latent means. The most informative is first; a strip without change "
            "is an idle latent."
        )
        html = Markup(f'<div class="strips">{"".join(strips)}</div>')
        more = len(material.order) - _MOST_STRIPS
        note = f"The other {more} latents carry less and are not shown." if more > 0 else ""
        return _with(section, look, [Panel(html, size="wide")], note)

    def grid(self, section: Section) -> Section:
        """The whole of a space of two latents, decoded at the quantiles of the prior."""
        side = 15
        at = normal_quantile((np.arange(side) + 0.5) / side)
        z = np.column_stack([np.tile(at, side), np.repeat(at[::-1], side)])
        picture = sheet(_rows(self._pixels(self._material.decode(z)), side), "Images decoded over the latent plane")
        look = (
            "The whole latent plane, decoded at the quantiles of the prior, so that each picture stands for an equal "
            "share "
            "of it: z0 to the right, z1 upwards. Kinds with much room are common to the model; sharp borders are "
            "where a "
            "small step changes the kind."
        )
        return _with(section, look, [Panel(Markup(f'<div class="sheet">{picture}</div>'), size="wide")])


def _rows(images: list[Floats], across: int) -> list[list[Floats]]:
    return [images[start : start + across] for start in range(0, len(images), across)]


def _with(
    section: Section, look: str, panels: list[Panel], note: str = "", verdicts: tuple[Verdict, ...] = ()
) -> Section:
    return Section(section.id, section.title, look, (*verdicts, *section.verdicts), panels=tuple(panels), note=note)
