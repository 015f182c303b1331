"""
Which files a fit writes, and whether a checkpoint that is there goes on. Knows files and options; nothing of loops.

A fit goes on only as what it was: with other data, or another option that changes the result, it would end as no
uninterrupted fit can, so that is refused by name. `--minutes`, `--threads` and `--device` may change.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from service.inputs import Column
from service.manifest import Data
from training import checkpoint
from training.checkpoint import Checkpoint
from training.errors import DataError, FitError
from training.output import require_writable

_MAY_CHANGE = ("minutes", "threads")
_REASONS = {"epochs": ": the learning rate falls over all epochs, so that the first ones would have been others"}


def require_file(flag: str, file: Path) -> None:
    """Raises TrainingError, naming *flag*, where *file* cannot be written."""
    if file.is_dir():
        raise FitError(f"{flag} {file}: a directory; name a file in it")
    require_writable(f"{flag} {file}", file.parent)


def require_apart(files: Mapping[str, Path]) -> None:
    """Raises FitError where two flags name one file: what the one writes, the other would lose."""
    flags: dict[Path, str] = {}
    for flag, file in files.items():
        other = flags.setdefault(file.resolve(), flag)
        if other != flag:
            raise FitError(f"{flag} {file}: is the file of {other} too")


def require_log(file: Path) -> None:
    """Raises FitError where *file* is there and is not the log of a fit: it would be written over."""
    try:
        with file.open("rb") as there:
            line = there.readline(2**16)
        if line:
            json.loads(line)["epoch"]
    except FileNotFoundError:
        return
    except (ValueError, TypeError, KeyError):
        raise FitError(f"--log {file}: is there, and is not the log of a fit; name another file") from None


@contextlib.contextmanager
def only_one(file: Path) -> Iterator[None]:
    """
    One fit at a time writes *file*, whose directory is made. Raises FitError where another does.

    The kernel lets go for a fit that dies.
    """
    file.parent.mkdir(parents=True, exist_ok=True)
    beside = file.with_name(f".{file.name}.lock")
    with contextlib.ExitStack() as stack:
        while True:
            lock = stack.enter_context(beside.open("w"))
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise FitError(f"{file}: another fit is writing it; give this one another --output") from None
            if _is_there(beside, lock.fileno()):
                break  # else a fit that has ended meanwhile took the file away, and another one may hold the next
        try:
            yield
        finally:
            beside.unlink(missing_ok=True)


def _is_there(file: Path, descriptor: int) -> bool:
    """Whether the open file *descriptor* is the one that is called *file*."""
    try:
        return os.path.samestat(os.fstat(descriptor), file.stat())
    except FileNotFoundError:
        return False


def found(
    file: Path,
    resume: bool,
    version: int | None,
    data: Data,
    source: str,
    training: Mapping[str, Any],
    columns: Sequence[Column] | None = None,
) -> Checkpoint | None:
    """
    The checkpoint in *file* to go on from, or None for a fresh start.

    *version*: of the bundle that *file* is named after, and that is not there yet; None: its name says nothing.
    *data*, *source*, *training* and *columns* are those of the fit that was asked for. Raises TrainingError where
    *file* is of another fit, or would be overwritten before there is a bundle of it.
    """
    if not file.is_file():  # a directory is refused by `require_writable`
        return None
    if not resume:
        there = checkpoint.load(file)
        if there.state is not None:
            raise FitError(
                f"{file} is an unfinished fit (epoch {there.state.progress.epoch}): go on with --resume, or delete it"
            )
        if version is not None:
            raise FitError(
                f"{file} is a finished fit whose bundle, version {version}, was not written: go on with --resume, or "
                "delete it"
            )
        return None
    there = checkpoint.load(file)
    if there.data.hash != data.hash:
        hashes = f"SHA-256 {data.hash[:12]}..., there {there.data.hash[:12]}..."
        raise DataError(f"--resume: {source} is not the data of {file}: {hashes}")
    for now_is, then in zip(columns or (), there.inputs.columns or (), strict=False):
        if now_is != then:
            raise FitError(f"--resume: column {now_is.name!r} is not described as when {file} was begun")
    for option, now, before in _differences(training, there.training):
        reason = _REASONS.get(option, "")
        raise FitError(f"--resume: {_flag(option)} is {now}, but {file} was begun with {before}{reason}")
    return there


def _differences(now: Mapping[str, Any], before: Mapping[str, Any]) -> Iterator[tuple[str, Any, Any]]:
    """Option, value now, value before: of everything that changes the result."""
    for group in ("dealing", "model", "options", "start"):
        old = before.get(group)
        yield from _unequal(now.get(group, {}), old if isinstance(old, Mapping) else {})


def _unequal(now: Mapping[str, Any], before: Mapping[str, Any]) -> Iterator[tuple[str, Any, Any]]:
    for option, value in now.items():
        if isinstance(value, Mapping):
            yield from _unequal(value, before.get(option, {}))
        elif option not in _MAY_CHANGE and value != before.get(option):
            yield option, _shown(value), _shown(before.get(option))


def _shown(value: Any) -> str:
    return ",".join(map(str, value)) or "none" if isinstance(value, list) else str(value)


def _flag(option: str) -> str:
    return f"--{option.replace('_', '-')}"
