"""Markdown: tables, and figures with their range."""

from __future__ import annotations

from collections.abc import Mapping, Sequence


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """As GitHub shows it."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in lines)


def middle(found: Sequence[float], form: str = "{:,.0f}") -> str:
    """The median with the range in brackets; alone where all are the same in this form."""
    median, least, most = (form.format(value) for value in found)
    return median if least == most else f"{median} ({least} to {most})"


def left_out(missing: Mapping[str, str]) -> str:
    """Who was not measured, and why; nothing where all were."""
    told = "; ".join(f"{name} ({why})" for name, why in missing.items())
    return f"Not measured: {told}." if told else ""
