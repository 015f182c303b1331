"""
The long run of tests/fuzz: every parser, and the whole service, against a million inputs and more.

    python -m benchmarks.fuzz --inputs 1000000 --seed 0 --jobs 2

A tenth of each parser's inputs is played by hypothesis, the rest by seeded generators: the same seed gives the same
inputs. They are read in processes of their own, whose memory is limited to what they have at the start and 512 MiB, so
that a crash, a hang or an allocation without bound is seen and its input kept: in build/fuzz/, as Python literals.
Prints a Markdown table; ends with 1 where anything failed.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import signal
import subprocess
import sys
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import AbstractContextManager, nullcontext
from importlib import import_module
from pathlib import Path
from random import Random
from types import FrameType
from typing import Any

from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import seed as seeded
from hypothesis import strategies as st

from benchmarks import memory

SHARES = {
    "json_bodies": 0.28,
    "record_bodies": 0.08,
    "npy_files": 0.18,
    "frames": 0.18,
    "header_fields": 0.1,
    "streams": 0.05,
    "picture_files": 0.06,
    "application": 0.07,
}
"""The part of the inputs that each module of tests/fuzz gets."""
PLAYED = 0.1  # of each, by hypothesis
SEGMENT = 50_000  # inputs of one process
ROUND = 2_000  # examples of one run of hypothesis
SPARE = 512 * 2**20  # bytes that a process may take beyond those that it has at the start
SLOW_S = 20.0
FOLDER = Path("build/fuzz")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run all segments and print what they did."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.fuzz", description=__doc__)
    parser.add_argument("--inputs", type=int, default=1_000_000, help="of all parsers together")
    parser.add_argument("--seed", type=int, default=0, help="of all that is drawn")
    parser.add_argument("--jobs", type=int, default=2, help="processes at a time")
    parser.add_argument("--only", choices=list(SHARES), help="all inputs for one parser")
    parser.add_argument("--segment", nargs=4, metavar=("PARSER", "HOW", "SEED", "COUNT"), help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.segment:
        name, how, seed, count = options.segment
        print(json.dumps(_Segment(name, how, int(seed)).run(int(count))))
        return 0
    start = time.perf_counter()
    FOLDER.mkdir(parents=True, exist_ok=True)
    shares = {options.only: 1.0} if options.only else SHARES
    if "application" in shares and not (FOLDER / "models/pumps").exists():
        import_module("tests.fuzz.application").make_model(FOLDER / "models")
    found: dict[str, list[dict[str, Any]]] = {name: [] for name in shares}
    with ThreadPoolExecutor(options.jobs) as pool:
        segments = [pool.submit(_in_a_process, one) for one in _segments(shares, options.inputs, options.seed)]
        for segment in as_completed(segments):
            name, result = segment.result()
            found[name].append(result)
            done = sum(part["inputs"] for parts in found.values() for part in parts)
            print(f"{time.perf_counter() - start:6.0f} s  {done:9,} inputs  {name}", file=sys.stderr, flush=True)
    failures = _print(found, options.seed, time.perf_counter() - start)
    return 1 if failures else 0


def _segments(shares: dict[str, float], inputs: int, seed: int) -> Iterator[tuple[str, str, int, int]]:
    """Parser, way, seed and number of inputs of each process."""
    number = seed * 1_000_000
    for name, share in shares.items():
        for how, part in (("played", PLAYED), ("seeded", 1 - PLAYED)):
            left = round(inputs * share * part + 0.5)
            while left > 0:
                yield name, how, number, min(left, SEGMENT)
                left -= SEGMENT
                number += 1


def _in_a_process(segment: tuple[str, str, int, int]) -> tuple[str, dict[str, Any]]:
    name, _, seed, _ = segment
    command = [sys.executable, "-X", "faulthandler", "-m", "benchmarks.fuzz", "--segment", *map(str, segment)]
    ran = subprocess.run(command, capture_output=True, text=True, check=False)
    if ran.returncode:
        (FOLDER / f"{name}-{seed}-crash.txt").write_text(ran.stderr[-10_000:])
        last = FOLDER / f"last-{name}-{seed}"
        if last.exists():
            last.replace(FOLDER / f"{name}-{seed}-crash-input.txt")
        return name, {"inputs": 0, "outcomes": {}, "failures": 1, "slowest_s": 0.0, "grown": 0, "base": 0}
    result: dict[str, Any] = json.loads(ran.stdout.splitlines()[-1])
    return name, result


class _Segment:
    """The inputs of one process, one after the other."""

    def __init__(self, name: str, how: str, seed: int) -> None:
        module = import_module(f"tests.fuzz.{name}")
        self._name, self._how, self._seed = name, how, seed
        self._make: Callable[[Random], Any] = getattr(module, "make", None) or import_module("tests.fuzz.requests").make
        self._module = module
        self._outcomes: Counter[str] = Counter()
        self._failures = self._done = 0
        self._slowest = 0.0
        self._last = os.open(FOLDER / f"last-{name}-{seed}", os.O_RDWR | os.O_CREAT | os.O_TRUNC)

    def run(self, count: int) -> dict[str, Any]:
        """What became of *count* inputs."""
        whole = self._name == "application"
        service: AbstractContextManager[Any] = (
            self._module.Application(FOLDER / "models/pumps") if whole else nullcontext(self._module)
        )
        signal.signal(signal.SIGALRM, _too_slow)
        with service as judge:
            self._check = judge.check
            for warm in range(20):
                self._check(self._make(Random(warm)))
            base = memory.peak()
            limit = memory.virtual() + SPARE
            resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
            if self._how == "seeded":
                random = Random(self._seed)
                for _ in range(count):
                    self._try(random)
            else:
                self._play(count)
        os.close(self._last)
        (FOLDER / f"last-{self._name}-{self._seed}").unlink()
        return {
            "inputs": self._done,
            "outcomes": self._outcomes,
            "failures": self._failures,
            "slowest_s": self._slowest,
            "base": base,
            "grown": memory.peak() - base if self._how == "seeded" else 0,  # hypothesis remembers what it played
        }

    def _play(self, count: int) -> None:
        number = self._seed * 1_000_000
        while self._done < count:
            number += 1
            examples = min(ROUND, count - self._done)

            @seeded(number)
            @settings(
                max_examples=examples,
                phases=[Phase.generate],
                database=None,
                deadline=None,
                suppress_health_check=list(HealthCheck),
            )
            @given(random=st.randoms(use_true_random=False))
            def play(random: Random) -> None:
                self._try(random)

            play()

    def _try(self, random: Random) -> None:
        made = self._make(random)
        os.ftruncate(self._last, os.pwrite(self._last, repr(made).encode("utf-8", "backslashreplace"), 0))
        self._done += 1
        signal.setitimer(signal.ITIMER_REAL, SLOW_S)
        start = time.perf_counter()
        try:
            self._outcomes[self._check(made)] += 1
        except Exception:
            self._failures += 1
            told = f"{made!r}\n\n{traceback.format_exc()}"
            (FOLDER / f"{self._name}-{self._how}-{self._seed}-{self._done}.txt").write_text(told)
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
        self._slowest = max(self._slowest, time.perf_counter() - start)


def _too_slow(number: int, frame: FrameType | None) -> None:
    raise TimeoutError(f"more than {SLOW_S} s")


def _print(found: dict[str, list[dict[str, Any]]], seed: int, seconds: float) -> int:
    """The table; how many inputs failed."""
    total = sum(part["inputs"] for parts in found.values() for part in parts)
    failures: int = sum(part["failures"] for parts in found.values() for part in parts)
    print(f"{total:,} inputs from seed {seed} in {seconds:.0f} s, {failures} failures.\n")
    print("| grammar | inputs | accepted | refused | slowest input | memory at the start, grown by |")
    print("|---|---|---|---|---|---|")
    for name, parts in found.items():
        inputs = sum(part["inputs"] for part in parts)
        outcomes: Counter[str] = sum((Counter(part["outcomes"]) for part in parts), Counter())
        accepted = outcomes.pop("accepted", 0)
        refused = ", ".join(f"{outcome} {count / inputs:.1%}" for outcome, count in outcomes.most_common() if inputs)
        slowest = max(part["slowest_s"] for part in parts)
        base, grown = (max(part[key] for part in parts) / 2**20 for key in ("base", "grown"))
        print(
            f"| {name} | {inputs:,} | {accepted / max(inputs, 1):.1%} | {refused} | {1000 * slowest:.0f} ms "
            f"| {base:.0f} MB, {grown:.0f} MB |"
        )
    return failures


if __name__ == "__main__":
    sys.exit(main())
