"""
Measure the service beside its references, and write the figures into benchmarks/README.md.

    python -m benchmarks.serving                  everything; `make bench`
    python -m benchmarks.serving latency growth   these parts
    python -m benchmarks.serving --resume         only the parts that have no result of this commit yet
    python -m benchmarks.serving --quick          a smoke run into build/bench-quick; `make bench-quick`
    python -m benchmarks.serving render           no measurement: the page, from the results that are there

Each part leaves build/bench-results/<part>.json. Ctrl-C ends the servers, and keeps the parts that are done.
"""

from __future__ import annotations

import argparse
import os
import shutil
import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from types import FrameType
from typing import Any

from benchmarks.part import Part
from benchmarks.serving import machine, page, verdicts, wrk
from benchmarks.serving.bench import QUICK, Bench, Effort
from benchmarks.serving.bundles import Bundles
from benchmarks.serving.failures import Failure, WrongAnswer
from benchmarks.serving.machine import ROOT
from benchmarks.serving.parts import PARTS

PAGE = ROOT / "benchmarks/README.md"
RENDER = "render"


def main(arguments: Sequence[str] | None = None) -> int:
    """0: measured and rendered; 1: a part failed; 2: it cannot be measured here; 130: interrupted."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.serving", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    names = [part.name for part in PARTS]
    about = "; ".join(f"{part.name}: {part.about}" for part in PARTS)
    parser.add_argument("parts", nargs="*", choices=[*names, RENDER, []], metavar="PART", help=f"{about}. Default: all")
    parser.add_argument("--quick", action="store_true", help="a smoke run of a few minutes, in a folder of its own")
    parser.add_argument("--resume", action="store_true", help="skip parts that were measured at this commit")
    parser.add_argument("--port", type=int, default=9500, help="the first of three free ports (default 9500)")
    peers = Path(os.environ.get("PEERS", ROOT / "build/peers"))
    parser.add_argument("--peers", type=Path, default=peers, help="their environments (default $PEERS or build/peers)")
    parser.add_argument("--results", type=Path, help="default build/bench-results, with --quick build/bench-quick")
    options = parser.parse_args(arguments)
    folder = options.results or ROOT / ("build/bench-quick" if options.quick else "build/bench-results")
    if options.parts == [RENDER]:
        return _render(folder, options.quick)
    chosen = [part for part in PARTS if part.name in options.parts or not options.parts]
    if any(part.wrk for part in chosen) and not wrk.installed():
        print(wrk.MISSING, file=sys.stderr)
        return 2
    signal.signal(signal.SIGTERM, _interrupt)
    effort = QUICK if options.quick else Effort()
    bench = Bench(effort, options.port, options.peers, folder, Bundles(ROOT / "build", _say), _say)
    try:
        failed = _measure(chosen, bench, options.resume)
    except KeyboardInterrupt:
        _say("interrupted; the parts that are done are kept: --resume goes on")
        return 130
    except WrongAnswer as error:
        _say(f"wrong answer, nothing more is measured: {error}")
        return 1
    status = _render(folder, options.quick)
    if failed:
        _say(f"failed: {', '.join(failed)}")
    return 1 if failed else status


def _measure(chosen: Sequence[Part[Bench]], bench: Bench, resume: bool) -> list[str]:
    """Measure the parts in turn; the names of those that failed."""
    here = machine.describe()
    if here["load"] > machine.QUIET:
        _say(f"the load average is {here['load']:g}: this machine is not quiet, and the page will say so")
    return [part.name for part in chosen if not _measured(part, bench, here, resume)]


def _measured(part: Part[Bench], bench: Bench, here: dict[str, Any], resume: bool) -> bool:
    """Measure one part and keep the result; whether that went well."""
    before = part.kept(bench.folder) if resume else None
    if before is not None and before["machine"]["commit"] == here["commit"]:
        _say(f"{part.name}: measured at this commit already")
        return True
    try:
        kept = part.keep(bench, bench.folder, here, bench.effort.quick)
    except Failure as error:
        _say(f"{part.name} failed: {error}")
        return False
    _say(f"{part.name}: {kept['seconds']:.0f} s")
    return True


def _render(folder: Path, quick: bool) -> int:
    """Write what the results say into the page; of a quick run into a copy of it. Parts without a result stay."""
    target = folder / "README.md" if quick else PAGE
    if quick:
        folder.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(PAGE, target)
    kept = {part.name: found for part in PARTS if (found := part.kept(folder))}
    results = {name: found["result"] for name, found in kept.items()}
    text = target.read_text()
    try:
        for part in PARTS:
            if part.name in kept:
                found = kept[part.name]
                told = f"{machine.caption(found['machine'], found['quick'])}\n\n{part.render(found['result'])}"
                text = page.replace(text, f"serving:{part.name}", told)
        if results:
            first = next(iter(kept.values()))
            told = f"{machine.sentence(first['machine'], first['quick'])}\n\n{verdicts.render(results)}"
            text = page.replace(text, "serving:verdicts", told)
    except page.MarkerMissing as error:
        _say(str(error))
        return 1
    if "latency" in results:
        from benchmarks.serving import latency, plot  # noqa: PLC0415  matplotlib takes a second to import

        plot.draw(latency.curves(results["latency"]), target.parent / "latency.svg")
    target.write_text(text)
    _say(f"wrote {target} from {', '.join(kept) or 'nothing'}")
    return 0


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def _say(text: str) -> None:
    print(f"{time.strftime('%H:%M:%S')} {text}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
