"""What the steps have in common: lines on stdout and stderr, the name of a model."""

from __future__ import annotations

import re
import sys
from argparse import Namespace
from pathlib import Path

from training.errors import TrainingError
from training.output import require_writable

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


def say(options: Namespace, *lines: str) -> None:
    """Print, unless --quiet; at once, because what is told may be what takes long."""
    if not options.quiet:
        print(*lines, sep="\n", flush=True)


def warn(line: str) -> None:
    """Tell on stderr, also with --quiet."""
    print(f"vae-train: warning: {line}", file=sys.stderr)


def model_name(output: Path) -> str:
    """
    The name of the model in a directory *output*.

    Raises TrainingError where it cannot name a model, or nothing can be written there.
    """
    name = output.resolve().name
    if not _NAME.fullmatch(name):
        raise TrainingError(f"--output {output}: {name!r} cannot name a model: letters, digits, '.', '_' and '-' only")
    require_writable(f"--output {output}", output)
    return name
