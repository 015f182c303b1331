"""The programs in the documentation: found, run against the service, and held to what is printed under them."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple

from tests.server import Server

ROOT = Path(__file__).parent.parent
_FENCED = re.compile(r"^```(\w+)\n(.*?)^```$", re.M | re.S)
_NUMBER = re.compile(r"(-?\d+(?:\.\d+)?(?:e[+-]?\d+)?)")


class Program(NamedTuple):
    """One fenced block in a language that runs, and what is shown under it, if anything is."""

    language: str
    code: str
    shown: str | None


def programs(text: str) -> list[Program]:
    """Every block of sh, python or js in a page, with the block of text or json that follows it."""
    blocks = list(_FENCED.finditer(text))
    found = []
    for block, after in zip(blocks, [*blocks[1:], None], strict=True):
        if block[1] in ("sh", "python", "js"):
            shown = after[2] if after is not None and after[1] in ("text", "json") else None
            found.append(Program(block[1], block[2], shown))
    return found


def run(program: Program, server: Server, folder: Path) -> str:
    """What it prints, run in *folder* (which sees deploy/, docs/ and .venv) as a reader would run it from a clone."""
    for name, real in (("deploy", ROOT / "deploy"), ("docs", ROOT / "docs"), (".venv", Path(sys.prefix))):
        if not (folder / name).exists():
            (folder / name).symlink_to(real)
    file = folder / f"program.{'mjs' if program.language == 'js' else program.language}"
    file.write_text(program.code.replace("localhost:8000", server.url.removeprefix("http://")), "utf-8")
    command = {"sh": ["sh", "-eu"], "python": [sys.executable], "js": ["node"]}[program.language]
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environment = {"PATH": path, "PYTHONPATH": str(folder)}
    ran = subprocess.run(
        [*command, file], cwd=folder, env=environment, capture_output=True, text=True, check=False, timeout=120
    )
    assert (ran.returncode, ran.stderr) == (0, ""), ran.stderr
    return ran.stdout


def agrees(shown: str, printed: str) -> bool:
    """Whether *printed* is what is *shown*, whose numbers may be rounded; in JSON, lists may be cut by "..."."""
    try:
        real = json.loads(printed)
    except json.JSONDecodeError:
        ours, theirs = (_NUMBER.split(" ".join(text.split())) for text in (shown, printed))
        return len(ours) == len(theirs) and all(map(_token, ours, theirs))
    return same(json.loads(re.sub(r",?\s*\.\.\.(?=\s*[\]}])", ', "..."', shown).replace('[, "..."', '["..."')), real)


def same(shown: Any, real: Any) -> bool:
    """Whether *shown*, with numbers rounded and lists cut by "...", is what *real* is."""
    if isinstance(shown, dict):
        return isinstance(real, dict) and set(shown) == set(real) and all(same(shown[k], real[k]) for k in shown)
    if isinstance(shown, list):
        if shown and shown[-1] == "...":
            shown, real = shown[:-1], real[: len(shown) - 1]
        return len(shown) == len(real) and all(same(a, b) for a, b in zip(shown, real, strict=True))
    if isinstance(shown, float):
        return bool(abs(shown - real) <= 0.006 + 1e-3 * abs(real))
    if isinstance(shown, str) and shown.endswith("..."):
        return str(real).startswith(shown[:-3])
    return bool(shown == real)


def _token(shown: str, printed: str) -> bool:
    """A whole number must be the same; one with a point may differ by one in its last place."""
    if "." in shown and _NUMBER.fullmatch(shown) and _NUMBER.fullmatch(printed):
        last = 10.0 ** -len(re.sub(r".*\.|e.*", "", shown))
        return bool(abs(float(shown) - float(printed)) <= 1.01 * last + 1e-3 * abs(float(printed)))
    return shown == printed
