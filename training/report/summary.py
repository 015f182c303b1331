"""The head of the page: what the model is, its key figures, and what they amount to."""

from __future__ import annotations

from typing import Any

from training.contest import LABELLED
from training.report.drawing import plain
from training.report.latents import activity
from training.report.material import Material
from training.report.page import Head, Tile, Verdict
from training.report.peers import contest_verdicts
from training.report.scores import default_alarms, false_alarm_verdict
from training.report.wording import number, percent


def summary(material: Material) -> Head:
    """Title, tiles, verdicts and facts, of what was measured and nothing else."""
    manifest = material.manifest
    inputs = manifest.inputs
    shape = " \u00d7 ".join(map(str, inputs.shape))
    what = {"table": f"{inputs.features:,} columns", "image": f"images, {shape} ({inputs.layout})"}.get(
        inputs.kind, shape
    )
    family = " and ".join(dict.fromkeys(part.family for part in manifest.likelihood))
    latents = f"{manifest.latent.dim} latent{'' if manifest.latent.dim == 1 else 's'}"
    members = manifest.members
    one = "A variational autoencoder" if members == 1 else f"An ensemble of {members} variational autoencoders"
    subtitle = f"{one} of {what}: {family} likelihood, {latents}. Made {manifest.created}."
    return Head(
        f"{manifest.name}, version {manifest.version}",
        subtitle,
        _tiles(material),
        _verdicts(material),
        _facts(material),
    )


def _tiles(material: Material) -> tuple[Tile, ...]:
    found, manifest = material.evaluation, material.manifest
    tiles = []
    if found:
        tiles.append(_bound("Held-out ELBO", found["elbo"], f"{found['rows']:,} rows"))
        tiles.append(_bound("log p(x), lower bound", found["log_px"], f"{found['draws']} draws a row"))
        active, total = found["active_units"], manifest.latent.dim
        tiles.append(Tile("Active latents", f"{active}", f"of {total}", f"KL {number(found['kl']['mean'])} nats a row"))
    contest = found.get("baselines", {})
    if "ranking" in contest:
        auroc, best = contest["ranking"][contest["kind"]]["auroc"], contest["ranking"][contest["best"]]["auroc"]
        label = "AUROC, anomalies" if contest["against"] == LABELLED else "AUROC, shuffled rows"
        tiles.append(Tile(label, f"{auroc:.3f}", "", f"best baseline {best:.3f}"))
    elif "auroc" in found:
        tiles.append(Tile("AUROC, anomalies", f"{found['auroc'][manifest.scoring.kind]:.3f}"))
    if row := default_alarms(material):
        low, high = row["interval"]
        detail = f"{'inside' if row['inside'] else 'outside'} {percent(low, 1)} to {percent(high, 1)}"
        tiles.append(Tile(f"False alarms at {row['alpha']:g}", percent(row["rate"], 1), "", detail))
    return tuple(tiles)


def _bound(label: str, figure: dict[str, Any], detail: str) -> Tile:
    error = "" if figure["standard_error"] is None else f"\u00b1 {number(figure['standard_error'])}, "
    return Tile(label, number(figure["mean"]), "nats", error + detail)


def _verdicts(material: Material) -> tuple[Verdict, ...]:
    if not material.evaluation:
        text = "There are no held-out rows: what this model is worth was not measured."
        return (Verdict(text, "watch"),)
    said = [*contest_verdicts(material), *false_alarm_verdict(material), *activity(material)]
    if not material.manifest.trained:
        said.insert(0, Verdict("The weights are as they were initialised: this model was never fitted.", "watch"))
    if (members := material.manifest.members) > 1:
        text = (
            f"Scores, bounds, false alarms and reconstructions are those of all {members} models together; learning "
            "curves, latents, draws and ways through the latent space are those of the first."
        )
        said.append(Verdict(text))
    if material.entry is None:
        said.append(Verdict("The bundle has no calibration: the service offers no anomaly-score.", "watch"))
    return tuple(said)


def _facts(material: Material) -> tuple[tuple[str, str], ...]:
    manifest, evaluation = material.manifest, material.evaluation
    rows = ", ".join(f"{count:,} {part}" for part, count in manifest.data.rows.items())
    if manifest.members > 1:
        rows += "; train and validation of the first model, while each row that is no test row calibrates one of them"
    facts = [
        ("rows", rows),
        ("looked at", f"{len(material.x):,} rows, {material.which}" if len(material.x) else "no rows"),
    ]
    if material.anomalies is not None:
        facts.append(("labelled anomalies", f"{len(material.anomalies):,}, never trained on"))
    if len(material.rows) < len(material.x):
        facts.append(("in the figures", f"{len(material.rows):,} of these rows; the evaluation is of all"))
    if evaluation:
        facts.append(("reconstruction", f"{number(evaluation['reconstruction']['mean'], 2)} nats a row"))
    for part in ("source", "model", "options", "result", "recalibrated"):
        facts += _flat(part, manifest.training.get(part))
    facts += [("score", f"{manifest.scoring.kind}, K = {manifest.scoring.samples}, alpha {manifest.scoring.alpha:g}")]
    facts += [("data (SHA-256)", manifest.data.hash), ("code", manifest.code_commit or "not known")]
    return tuple(facts)


def _flat(name: str, value: Any) -> list[tuple[str, str]]:
    if value is None:
        return []
    if isinstance(value, dict):
        return [(f"{name}: {key.replace('_', ' ')}", _text(inner)) for key, inner in value.items()]
    return [(name, _text(value))]


def _text(value: Any) -> str:
    if value is None:
        return "none"
    if isinstance(value, list):
        return ", ".join(map(str, value)) or "none"
    return f"{value:.6g}" if isinstance(value, float) else plain(str(value), 200)
