"""
Do to the service what must not harm it, and write what became of it into benchmarks/reliability.md.

    python -m benchmarks.reliability                    everything; `make reliability`
    python -m benchmarks.reliability overload sigterm   these parts
    python -m benchmarks.reliability --quick            a smoke run into build/reliability-quick
    python -m benchmarks.reliability render             no measurement: the page, from the results that are there

Each part leaves build/reliability/<part>.json.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.part import Part
from benchmarks.reliability.parts import PARTS
from benchmarks.reliability.setting import Setting
from benchmarks.serving import machine, page
from benchmarks.serving.failures import Failure
from benchmarks.serving.machine import ROOT

PAGE = ROOT / "benchmarks/reliability.md"
RENDER = "render"
QUICK = 0.05
REQUESTS = 1_000_000
SEEDS = (1, 2, 3, 4)


def main(arguments: Sequence[str] | None = None) -> int:
    """0: everything was measured and rendered; 1: a part failed; what was missed is on the page."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.reliability",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    names = [part.name for part in PARTS]
    about = "; ".join(f"{part.name}: {part.about}" for part in PARTS)
    parser.add_argument("parts", nargs="*", choices=[*names, RENDER, []], metavar="PART", help=f"{about}. Default: all")
    parser.add_argument("--quick", action="store_true", help="a twentieth of everything, in a folder of its own")
    parser.add_argument("--port", type=int, default=9700, help="a free port (default 9700)")
    parser.add_argument("--requests", type=int, default=REQUESTS, help=f"of the million (default {REQUESTS:,})")
    parser.add_argument(
        "--seeds", type=int, nargs="+", default=SEEDS, help=f"of the document's cases, one run each (default {SEEDS})"
    )
    options = parser.parse_args(arguments)
    folder = ROOT / ("build/reliability-quick" if options.quick else "build/reliability")
    scale = QUICK if options.quick else 1.0
    setting = Setting(options.port, folder, scale, round(scale * options.requests), tuple(options.seeds), _say)
    (folder / "logs").mkdir(parents=True, exist_ok=True)
    chosen = [part for part in PARTS if part.name in options.parts or not options.parts]
    here = machine.describe()  # once: afterwards the load average is that of the parts before
    failed = [part.name for part in chosen if not _measured(part, setting, here, options.quick)]
    _render(folder, options.quick)
    if failed:
        _say(f"failed: {', '.join(failed)}")
    return 1 if failed else 0


def _measured(part: Part[Setting], setting: Setting, here: dict[str, Any], quick: bool) -> bool:
    """Measure one part and keep the result; whether that went well."""
    try:
        kept = part.keep(setting, setting.folder, here, quick)
    except Failure as error:
        _say(f"{part.name} failed: {error}")
        return False
    _say(f"{part.name}, {kept['seconds']:.0f} s: {part.render(kept['result'])}")
    return True


def _render(folder: Path, quick: bool) -> None:
    """Write what the results say into the page; of a quick run into a copy of it. Parts without a result stay."""
    target = folder / PAGE.name if quick else PAGE
    if quick:
        shutil.copyfile(PAGE, target)
    text = target.read_text()
    for part in PARTS:
        if found := part.kept(folder):
            caption = machine.caption(found["machine"], found["quick"])
            told = f"{caption} {_place(found['machine'])}\n\n{part.render(found['result'])}"
            text = page.replace(text, f"reliability:{part.name}", told)
    target.write_text(text)
    _say(f"wrote {target}")


def _place(here: Mapping[str, Any]) -> str:
    return (
        f"{here['cores']} cores ({here['cpu']}), {here['memory_gb']:g} GB, {here['python']}, "
        f"uvicorn {here['packages']['uvicorn']}, onnxruntime {here['packages']['onnxruntime']}; "
        f"load average {here['load']:g} at the start."
    )


def _say(text: str) -> None:
    print(f"{time.strftime('%H:%M:%S')} {text}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
