"""An evaluation as text: what `vae-train evaluate` prints. Knows what `evaluate` returns, and the manifest."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from service.calibrated import ALL
from service.errors import counted
from service.manifest import Manifest
from training.baselines import NAMES
from training.contest import LABELLED, norm_alarm, verdict

_BOUNDS = {
    "elbo": "ELBO",
    "reconstruction": "  reconstruction, E log p(x|z)",
    "kl": "  KL(q(z|x) || p(z))",
}


def lines(evaluation: Mapping[str, Any]) -> list[str]:
    """One line a figure; nats are means over rows, with their standard error."""
    draws = evaluation["draws"]
    out = [f"{'rows':<34}{evaluation['rows']:>10}"]
    for key, label in {**_BOUNDS, "log_px": f"log p(x), bound of {draws} draws"}.items():
        figure = evaluation[key]
        error = "" if figure["standard_error"] is None else f" +- {figure['standard_error']:.3f}"
        out.append(f"{label:<34}{figure['mean']:>10.3f}{error} nats")
    kl = sorted(evaluation["kl_per_latent"], reverse=True)
    out.append(f"{'active units':<34}{evaluation['active_units']:>10} of {len(kl)}")
    out.append(
        f"{'KL per latent, largest first':<34}{'  '.join(f'{v:.2f}' for v in kl[:12])}{' ...' if len(kl) > 12 else ''}"
    )
    out += _false_alarms(evaluation.get("false_alarms", []))
    out += _ensemble(evaluation.get("ensemble"))
    for kind, value in evaluation.get("auroc", {}).items():
        out.append(f"{f'AUROC of {kind}':<34}{value:>10.4f} ({evaluation['anomalies']} labelled anomalies)")
    out += _alphas(evaluation.get("alphas"))
    return out + _baselines(evaluation.get("baselines"), evaluation["log_px"]["mean"])


def sigmas(manifest: Manifest) -> list[str]:
    """What the model takes for noise, a line for each family that has a sigma; of an ensemble its first member's."""
    out = []
    for part in manifest.likelihood:
        least, most = (part.parameters.get(f"{which}_sigma") for which in ("smallest", "largest"))
        if least is not None and most is not None:
            which = "" if part.columns is None else f" of {counted(len(part.columns), 'column')}"
            ends = f"{least:.4g}" if least == most else f"{least:.4g} to {most:.4g}"
            out.append(f"{f'sigma{which}, {part.family}':<34}{ends} in original units")
    return out


def _ensemble(found: Mapping[str, Any] | None) -> list[str]:
    """What of these figures is not of the whole ensemble, and not exact."""
    if found is None:
        return []
    out = [f"  (An ensemble of {found['models']} models: active units and KL per latent are those of the first.)"]
    if found["by_folds"]:
        out.append("  (Its p-values are cross-conformal: near the law that the intervals have, and often below alpha.)")
    return out


def _false_alarms(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Of complete rows each rate, of others those outside of their interval and how many are inside: bins are many."""
    out = [_rate(row) for row in rows if not row["mask_bin"]]
    gaps = [row for row in rows if row["mask_bin"] and row["interval"] is not None]
    if gaps:
        inside, of = sum(bool(row["inside"]) for row in gaps), counted(len(gaps), "rate")
        out.append(f"{'false alarms with values missing':<34}{inside:>10} of {of} inside the 90 % interval")
    return out + [_rate(row) for row in gaps if not row["inside"]]


def _rate(row: Mapping[str, Any]) -> str:
    label = f"false alarms at alpha {row['alpha']:g}"
    if row["mask_bin"]:
        label += ", {:g} to {:g} % missing".format(*(100 * share for share in row["missing"]))
    if row["group"] != ALL:
        label += f", {row['group']}"
    told = f"by {row['by']} rows, too few of its own"
    if row["interval"] is not None:
        told = "{} the 90 % interval {:.4f} to {:.4f}".format(
            "inside" if row["inside"] else "OUTSIDE", *row["interval"]
        )
    return f"{label:<34}{row['rate']:>10.4f} {told}"


def _alphas(found: Mapping[str, Any] | None) -> list[str]:
    """What labelled anomalies say of alpha."""
    if found is None:
        return []
    if "missing" in found:
        return [f"no alpha chosen by labels: {found['missing']}"]
    out = []
    for name, what in (("f1", "F1"), ("cost", "cost")):
        if name in found:
            row = found[name]
            best = "flag nothing" if row["alpha"] is None else f"{row['alpha']:g}"
            told = f"recall {row['recall']:.3f}, false alarms {row['false_alarms']:.4f}, F1 {row['f1']:.3f}"
            told += f", cost {row['cost']:.4g} a row" if "cost" in row else ""
            out.append(f"{f'best alpha by {what}':<34}{best:>10} {told}")
    label = f"chosen on half of the labelled rows, measured on {found['normal']} normal ones and {found['anomalies']} "
    label += f"anomalies; anomalies are {found['anomaly_share']:.4g} of all rows"
    label += f"; a miss costs {found['miss_cost']:g} false alarms" if "miss_cost" in found else ""
    return [*out, f"  ({label}. No false-alarm rate is promised.)"]


def _baselines(found: Mapping[str, Any] | None, log_px: float) -> list[str]:
    """The baselines beside the VAE: their ranking, their densities, and who wins."""
    if found is None:
        return []
    if "missing" in found:
        return [f"no baselines: {found['missing']}"]
    what = f"{found['anomalous_rows']} {found['against']}" if found["against"] == LABELLED else "shuffled rows"
    out = [f"{f'against {what}':<34}{'AUROC':>10}{'avg. precision':>16}{'log p(x)':>12}"]
    densities = {name: figure["mean"] for name, figure in found.get("log_px", {}).items()}
    if densities:
        densities[found["kind"]] = log_px
    for name, row in found["ranking"].items():
        label = f"  {NAMES[name]}" if name in NAMES else f"  VAE, {name}"
        density = f"{densities[name]:>12.3f}" if name in densities else ""
        out.append(f"{label:<34}{row['auroc']:>10.4f}{row['average_precision']:>16.4f}{density}")
    out += [f"  {text}" for text in found.get("given", [])]
    out += [f"  {NAMES[name]}: not run, {reason}" for name, reason in found["left_out"].items()]
    return [*out, verdict(found), *filter(None, [norm_alarm(found)])]
