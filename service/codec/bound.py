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
    """The elements (values, lists and objects) that *rows* rows of all of *specs* have, and what may stand beside."""
    return SPARE + rows * sum(math.prod(spec.shape) + spec.lists for spec in specs)


def check_elements(body: bytes, end: int, most: int) -> None:
    """
    Raise TooLarge where the JSON in the first *end* bytes of *body* has more than *most* elements.

    Each costs a comma or a bracket, and so a byte. Those in strings are counted with them: no request needs so many.
    """
    if end <= most:
        return
    elements = sum(body.count(mark, 0, end) for mark in (b",", b"[", b"{"))
    if elements > most:
        raise TooLarge(
            f"the body's JSON has {elements} values, lists and objects; one request may have {most}",
            field="body",
            limit=most,
            value=elements,
        )
