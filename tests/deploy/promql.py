"""What a PromQL expression names, read off its text; and what there is to name."""

from __future__ import annotations

import re

from prometheus_client import Metric

from service.metrics import Metrics

_STRING = re.compile(r'"[^"]*"')
_GROUPING = re.compile(r"\b(?:by|without|on|ignoring|group_left|group_right)\s*\(([^)]*)\)")
_WORDS = {"and", "or", "unless", "bool", "offset", "by", "without", "on", "ignoring", "group_left", "group_right"}


def metrics_in(expr: str) -> set[str]:
    """The metrics that *expr* selects: names that are neither a function, an operator, a label nor a duration."""
    bare = re.sub(r"\{[^}]*\}|\[[^]]*\]", " ", _GROUPING.sub(" ", _STRING.sub('""', expr)))
    return set(re.findall(r"(?<![\w.:$])[a-zA-Z_:][\w:]*(?!\w*\s*\()(?![\w:])", bare)) - _WORDS


def labels_in(expr: str) -> set[str]:
    """The labels that *expr* selects or groups by."""
    bare = _STRING.sub('""', expr)
    selected = re.findall(r"(\w+)\s*(?:=~|!~|!=|=)\s*\"", bare)
    return set(selected) | {
        name.strip() for group in _GROUPING.findall(bare) for name in group.split(",") if name.strip()
    }


def _families() -> list[Metric]:
    metrics = Metrics()
    metrics.watch_queue(dict)
    return list(metrics.registry.collect())


def _names(family: Metric) -> list[str]:
    suffixes = {"counter": ["_total"], "histogram": ["_bucket", "_sum", "_count"]}
    return [family.name + suffix for suffix in suffixes.get(family.type, [""])]


SAMPLES = {name: family for family in _families() for name in _names(family)}
"""Each sample that the service exposes, its own and those of the process and of Python, and the family it is of."""
