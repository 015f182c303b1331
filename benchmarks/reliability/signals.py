"""SIGTERM under load, and SIGKILL of one of two workers under load."""

from __future__ import annotations

import signal
import time
from collections import Counter
from collections.abc import Mapping
from typing import Any

import psutil

from benchmarks.reliability.callers import Callers
from benchmarks.reliability.setting import Result, Setting, verdict
from benchmarks.serving.failures import Failure
from benchmarks.serving.process import Process

ROUNDS = 20
CALLERS = 16
LOAD_S = 0.6


def measure_sigterm(setting: Setting) -> Result:
    """Rounds of: start, load, SIGTERM; callers leave when a reply closes their connection."""
    outcomes: Counter[str] = Counter()
    statuses: Counter[str] = Counter()
    seconds = []
    rounds = setting.some(ROUNDS, 2)
    for number in range(rounds):
        workers = 1 + number % 2
        with setting.serve(f"sigterm-{number}", workers=workers) as server:
            _wait_for_workers(server, workers)
            with Callers(server.port, CALLERS, leave=True) as callers:
                time.sleep(LOAD_S)
                process = server.process()
                start = time.perf_counter()
                process.send_signal(signal.SIGTERM)
                statuses[str(process.wait(60))] += 1
                seconds.append(time.perf_counter() - start)
        outcomes += callers.outcomes
    return {"rounds": rounds, "outcomes": dict(outcomes), "exit": dict(statuses), "seconds": max(seconds)}


def render_sigterm(result: Mapping[str, Any]) -> str:
    """As the page has it."""
    bad = {name: count for name, count in result["outcomes"].items() if name != "right"}
    told = ", ".join(f"{count} {name}" for name, count in bad.items()) or "none"
    good = not bad and set(result["exit"]) == {"0"}
    exits = ", ".join(f"{status} ({count} times)" for status, count in result["exit"].items())
    return (
        f"{result['rounds']} rounds, by turns with one worker and with two, {CALLERS} callers without pause: "
        f"{result['outcomes'].get('right', 0):,} requests answered rightly, others: {told}; exit status {exits}, at "
        f"most {result['seconds']:.1f} s after the signal. No failed request: {verdict(good)}."
    )


def measure_sigkill(setting: Setting) -> Result:
    """
    Rounds of: kill one worker of two, wait until both are there again, kill the other. Whose answers suffered?

    A service is started anew every two rounds: one whose workers die again and again replaces them ever later.
    """
    outcomes: Counter[str] = Counter()
    slowest = 0.0
    rounds = setting.some(ROUNDS, 2)
    for number in range(0, rounds, 2):
        with setting.serve(f"sigkill-{number}", workers=2) as server:
            _wait_for_workers(server, 2)
            victims = server.process().children()
            with Callers(server.port, CALLERS) as callers:
                for victim in victims:
                    time.sleep(LOAD_S)
                    victim.kill()
                    victim.wait(10)
                    _wait_for_workers(server, 2)
                time.sleep(LOAD_S)
        outcomes += callers.outcomes
        slowest = max(slowest, *callers.seconds)
    living = outcomes.pop("broken by the living", 0)
    broken = {name: count for name, count in outcomes.items() if name.startswith("broken")}
    return {
        "rounds": rounds,
        "right": outcomes["right"],
        "wrong": outcomes["wrong"],
        "living": living,
        "statuses": {name: count for name, count in outcomes.items() if name.startswith("status")},
        "broken": sum(broken.values()),
        "workers_broken": len(broken),
        "most_ms": 1000 * slowest,
    }


def render_sigkill(result: Mapping[str, Any]) -> str:
    """As the page has it."""
    # each worker lives on its own; a connection can break only with the worker that had it, one a round
    good = (
        not result["wrong"]
        and not result["living"]
        and not result["statuses"]
        and result["workers_broken"] <= result["rounds"]
    )
    good = good and result["broken"] <= result["rounds"] * CALLERS
    statuses = ", ".join(f"{count} {name}" for name, count in result["statuses"].items()) or "none"
    return (
        f"{result['rounds']} kills of one of two workers, {CALLERS} callers: {result['right']:,} requests "
        f"answered rightly, {result['wrong']} wrongly, other statuses: {statuses}. {result['broken']} requests were "
        f"lost with the {result['workers_broken']} killed workers whose connections they were on; connections that a "
        f"living worker broke: {result['living']}; the slowest answer took {result['most_ms']:.0f} ms. Nobody else's "
        f"answer harmed: {verdict(good)}."
    )


def _wait_for_workers(server: Process, count: int) -> None:
    """Until the service has *count* workers that say they are ready."""
    end = time.perf_counter() + 30
    while count > 1:
        lines = server.log.read_text().splitlines()
        process = server.process()
        alive = {child.pid for child in process.children() if child.status() != psutil.STATUS_ZOMBIE}
        started = [int(line.split()[-1]) for line in lines if " is process " in line]
        ready = sum(" is ready" in line or ": running on " in line for line in lines)
        if len(alive) == count and ready == len(started):
            return
        if time.perf_counter() > end:
            raise Failure(f"{count} workers were not ready after 30 s")
        time.sleep(0.02)
