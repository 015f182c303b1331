"""`vae-train schema`: what each column of a table is taken for, as text to edit. Needs no PyTorch."""

from __future__ import annotations

from argparse import Namespace

from training import schema
from training.errors import DataError
from training.output import require_writable
from training.steps.reading import guessed, opened, reading
from training.steps.said import say, warn


def run(options: Namespace) -> None:
    """Write the schema that a table suggests; what is not clear is left out of it, with the reason."""
    output = options.output
    if output is not None and output.exists():
        raise DataError(f"--output {output}: is there; name another file")
    how = reading(options)
    guess = guessed(options, opened(options, how), how)
    text = schema.written(guess.schema, options.data, guess.notes)
    for problem in guess.problems:
        warn(problem)
    if output is None:
        print(text, end="")
        return
    require_writable(f"--output {output}", output.parent)
    output.parent.mkdir(parents=True, exist_ok=True)
    output.write_text(text, "utf-8")
    say(options, *guess.lines(), f"wrote {output}")
