"""The shipped Grafana dashboard, as its file says it."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

FILE = Path(__file__).parents[2] / "deploy/grafana/dashboards/vae-serve.json"
DASHBOARD = json.loads(FILE.read_text())


def panels() -> list[dict[str, Any]]:
    """Those that show something: all but the headings of rows."""
    return [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]


def targets(panel: dict[str, Any]) -> list[dict[str, Any]]:
    """The queries of one panel: expr, legendFormat and others."""
    return list(panel["targets"])


def variables() -> dict[str, str]:
    """The query behind each variable."""
    return {variable["name"]: variable["query"]["query"] for variable in DASHBOARD["templating"]["list"]}


def marks() -> dict[str, str]:
    """The query behind each kind of mark in the graphs."""
    return {annotation["name"]: annotation["expr"] for annotation in DASHBOARD["annotations"]["list"]}


def shown(legend: str) -> set[str]:
    """The labels that a legend like "{{op}} {{stage}}" shows."""
    return set(re.findall(r"\{\{(\w+)\}\}", legend))
