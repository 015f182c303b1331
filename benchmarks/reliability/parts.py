"""
The parts, in the order in which they run.

A new one is a module with `measure` and `render`, a line here, and a section `reliability:<name>` of the page.
"""

from __future__ import annotations

from benchmarks.part import Part
from benchmarks.reliability import connections, document, million, overload, signals
from benchmarks.reliability.setting import Setting

PARTS: tuple[Part[Setting], ...] = (
    Part("document", "the OpenAPI document under schemathesis", document.measure, document.render),
    Part("connections", "hostile connections", connections.measure, connections.render),
    Part("overload", "five times more than there is capacity for", overload.measure, overload.render),
    Part("sigterm", "SIGTERM under load", signals.measure_sigterm, signals.render_sigterm),
    Part("sigkill", "SIGKILL of a worker under load", signals.measure_sigkill, signals.render_sigkill),
    Part("million", "a million checked answers", million.measure, million.render),
)
