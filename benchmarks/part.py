"""A part of what is measured: what `make bench` and `make reliability` run, keep and render."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

Given = TypeVar("Given")
"""What every part of one command is given."""

Kept = dict[str, Any]
"""A result, with what it depends on: the part, whether the run was quick, the machine, the seconds that it took."""


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

    def keep(self, given: Given, folder: Path, machine: Mapping[str, Any], quick: bool) -> Kept:
        """Measure, and keep the result in *folder*. Raises what *measure* raises: then what was there stays."""
        start = time.perf_counter()
        result = self.measure(given)
        seconds = time.perf_counter() - start
        kept = {"part": self.name, "quick": quick, "machine": machine, "seconds": seconds, "result": result}
        folder.mkdir(parents=True, exist_ok=True)
        new = self._file(folder).with_suffix(".new")
        new.write_text(json.dumps(kept, indent=1) + "\n")
        new.replace(self._file(folder))
        return kept

    def kept(self, folder: Path) -> Kept | None:
        """What is kept of it in *folder*, where something is."""
        file = self._file(folder)
        found: Kept | None = json.loads(file.read_text()) if file.exists() else None
        return found

    def _file(self, folder: Path) -> Path:
        return folder / f"{self.name}.json"
