"""The VAE beside the baselines: who ranks anomalies better, and who gives held-out rows the higher density."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from service.errors import counted
from training.baselines import IN_WORDS, NAMES
from training.contest import LABELLED, norm_alarm, verdict
from training.report.material import Material
from training.report.page import Cell, Section, Table, Verdict
from training.report.wording import number, with_error

ID, TITLE = "baselines", "Beside simpler methods"


def peers(material: Material) -> Section:
    """The table of AUROC, average precision and log p(x); missing without the training rows."""
    found = material.evaluation.get("baselines")
    if not found:
        return Section(ID, TITLE, missing="there are no held-out rows")
    if "missing" in found:
        return Section(ID, TITLE, missing=found["missing"])
    labelled = found["against"] == LABELLED
    look = (
        f"For comparison, {counted(len(found['described']), 'method')} without a neural network, fitted to "
        f"{found['train_rows']:,} of the same training rows and asked to tell {found['normal_rows']:,} held-out normal "
        f"rows from {found['anomalous_rows']:,} "
        f"{'labelled anomalies' if labelled else 'shuffled ones'}. An AUROC of 0.5 is a coin, 1 is perfect."
    )
    chance = found["anomalous_rows"] / (found["anomalous_rows"] + found["normal_rows"])
    notes = [f"Average precision of a coin: {chance:.2f}."]
    if not labelled:
        notes.append(
            "No anomalies are labelled here. The stand-in are held-out rows whose features were each shuffled by "
            "themselves: every value is an ordinary one, only the combinations are wrong. It shows whether a method "
            "has "
            "learned how features hang together; it does not show how well real anomalies would be found, and it says "
            "nothing of values that are extreme by themselves."
        )
    if found.get("log_px"):
        notes.append(
            "log p(x) is in nats of the original units for all (the VAE's is a lower bound), each with its standard "
            "error."
        )
    notes += found.get("given", [])
    notes += [f"{NAMES[name]} was left out: {reason}." for name, reason in found["left_out"].items()]
    return Section(ID, TITLE, look, contest_verdicts(material), tables=(_table(found, material),), note=" ".join(notes))


def contest_verdicts(material: Material) -> tuple[Verdict, ...]:
    """Who wins, in sentences; none without a contest."""
    found = material.evaluation.get("baselines")
    if not found or "missing" in found:
        return ()
    beaten = found["lead"] > 2 * found["lead_error"]
    better = -found["lead"] > 2 * found["lead_error"]
    said = [Verdict(verdict(found) + ".", "watch" if beaten else "good" if better else "plain")]
    if alarm := norm_alarm(found):
        said.append(Verdict(alarm + ".", "watch"))
    densities = found.get("log_px", {})
    if densities:
        name, figure = max(densities.items(), key=lambda item: float(item[1]["mean"]))
        ahead = figure["mean"] - material.evaluation["log_px"]["mean"]
        error = (figure["standard_error"] or 0) + (material.evaluation["log_px"]["standard_error"] or 0)
        which = IN_WORDS[name]
        if ahead > 2 * error:
            first = which[0].upper() + which[1:]
            text = f"{first} gives held-out rows {number(ahead)} nats a row more than this VAE's bound."
            said.append(Verdict(text, "watch"))
        elif ahead < -2 * error:
            said.append(
                Verdict(f"Held-out rows get {number(-ahead)} nats a row more from this VAE than from {which}.", "good")
            )
        else:
            said.append(Verdict(f"This VAE and {which} give held-out rows about the same density."))
    return tuple(said)


def _table(found: Mapping[str, Any], material: Material) -> Table:
    densities = {name: with_error(figure) for name, figure in found.get("log_px", {}).items()}
    if densities:
        densities[found["kind"]] = with_error(material.evaluation["log_px"])
    head = ("method", "AUROC", "average precision", *(("log p(x), nats",) if densities else ()), "how")
    rows = []
    for name, row in found["ranking"].items():
        label = NAMES.get(name, f"this VAE, {name}")
        how = found["described"].get(name, "default score" if name == found["kind"] else "")
        density = (Cell(densities.get(name, "")),) if densities else ()
        auroc, precision = (Cell(f"{row[key]:.3f}", share=row[key]) for key in ("auroc", "average_precision"))
        rows.append(
            (
                Cell(label[0].upper() + label[1:] if name != "knn" else label),
                auroc,
                precision,
                *density,
                Cell(how.replace("-log", "\u2212log"), words=True),
            )
        )
    order = sorted(range(len(rows)), key=lambda i: -list(found["ranking"].values())[i]["auroc"])
    names = list(found["ranking"])
    strong = tuple(place for place, i in enumerate(order) if names[i] == found["kind"])
    return Table(head, tuple(rows[i] for i in order), strong, "Best AUROC first; the default score in bold.")
