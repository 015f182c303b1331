"""A part of what is measured: what `make bench` and `make reliability` run, keep and render."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

Given = TypeVar("Given")
"""What every part of one command is given."""


@dataclass(frozen=True)
class Part(Generic[Given]):
    """
    *render* makes the section of its page that has its *name*, from what *measure* found, as JSON has it.

    *wrk*: whether it cannot be measured without that program.
    """

    name: str
    about: str
    measure: Callable[[Given], dict[str, Any]]
    render: Callable[[Mapping[str, Any]], str]
    wrk: bool = False
