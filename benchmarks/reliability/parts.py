"""
The parts, in the order in which they run.

A new one is a module with `measure` and `render`, a line here, and a section of the page.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from benchmarks.reliability import connections, document, million, overload, signals
from benchmarks.reliability.setting import Result, Setting


@dataclass(frozen=True)
class Part:
    """*render* makes the section `reliability:<name>` of the page."""

    name: str
    about: str
    measure: Callable[[Setting], Result]
    render: Callable[[Mapping[str, Any]], str]


PARTS = (
    Part("document", "the OpenAPI document under schemathesis", document.measure, document.render),
    Part("connections", "hostile connections", connections.measure, connections.render),
    Part("overload", "five times more than there is capacity for", overload.measure, overload.render),
    Part("sigterm", "SIGTERM under load", signals.measure_sigterm, signals.render_sigterm),
    Part("sigkill", "SIGKILL of a worker under load", signals.measure_sigkill, signals.render_sigkill),
    Part("million", "a million checked answers", million.measure, million.render),
)
