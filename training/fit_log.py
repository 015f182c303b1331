"""The log of a fit: one line of JSON an epoch, readable while the fit runs."""

from __future__ import annotations

import json
from pathlib import Path

from training.validation import Record


class FitLog:
    """Writes *file* anew, or goes on in it before epoch *first*: what a killed run logged beyond its state goes."""

    def __init__(self, file: Path, first: int = 1) -> None:
        kept = [line for line in _lines(file) if json.loads(line)["epoch"] < first] if first > 1 else []
        file.parent.mkdir(parents=True, exist_ok=True)
        part = file.with_name(f".{file.name}.tmp")
        part.write_text("".join(f"{line}\n" for line in kept))
        part.replace(file)
        self._out = file.open("a")

    def __call__(self, record: Record) -> None:
        """One more epoch."""
        print(json.dumps(record), file=self._out, flush=True)

    def close(self) -> None:
        """After the last epoch."""
        self._out.close()


def _lines(file: Path) -> list[str]:
    """The whole lines of *file*: a run that was killed may have left half of one."""
    text = file.read_text() if file.exists() else ""
    return text[: text.rfind("\n") + 1].splitlines()
