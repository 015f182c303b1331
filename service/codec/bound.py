"""
How much JSON one request can need, counted in the bytes before a parser makes objects of them.

Of 32 MiB of `[{},{},...]` a parser makes gigabytes of objects that no operation has a use for. Knows rows and commas;
nothing of what a body means.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

from service.codec.rows import RowSpec
from service.errors import TooLarge

SPARE = 4096
"""What a request may hold beside its rows: options, and under /v2 the descriptions of tensors."""


def most_elements(specs: Iterable[RowSpec], rows: int) -> int:
    """
    The elements (values, lists and objects) that *rows* rows of all of *specs* have, and what may stand beside.

    Of tables those of records, which have more: commas in names and categories count as well.
    """
    return SPARE + sum(spec.most_sent(rows) * _elements(spec) for spec in specs)


def _elements(spec: RowSpec) -> int:
    return spec.table.elements if spec.table is not None else math.prod(spec.shape) + spec.lists


def check_elements(body: bytes, end: int, most: int) -> None:
    """
    Raise TooLarge where the JSON in the first *end* bytes of *body* has more than *most* elements.

    Those in strings are counted with them: no request needs so many.
    """
    if (count := elements(body, 0, end, most)) > most:
        raise TooLarge(
            f"the body's JSON has {count} values, lists and objects; one request may have {most}",
            field="body",
            limit=most,
            value=count,
        )


def elements(body: bytes, start: int, end: int, most: int) -> int:
    """How many elements a part of *body* may have, each of which costs a comma or a bracket; up to *most*, its size."""
    if end - start <= most:
        return end - start
    return sum(body.count(mark, start, end) for mark in (b",", b"[", b"{"))
