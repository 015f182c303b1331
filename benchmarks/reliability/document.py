"""Every operation of the OpenAPI document under schemathesis: no 5xx, nothing undocumented."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmarks.reliability.setting import Result, Setting, verdict
from benchmarks.serving.failures import Failure
from benchmarks.serving.machine import ROOT
from benchmarks.serving.tables import table

VERSION = "4.32.5"
LEAST_CASES = 10_000
EXAMPLES = 320  # of each operation, over all seeds
CHECKS = (
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_headers_conformance",
    "response_schema_conformance",
    "negative_data_rejection",
    "unsupported_method",
    "allow_header_conformance",
)
ENVIRONMENT = ROOT / "build/schemathesis"


def measure(setting: Setting) -> Result:
    """Install schemathesis where it is not yet, in an environment of its own; one run against the service a seed."""
    program = _installed()
    runs = [_run(program, setting, seed) for seed in setting.seeds]
    return {"version": runs[0]["version"], "runs": runs}


def _run(program: Path, setting: Setting, seed: int) -> Result:
    report = setting.folder / f"schemathesis-{seed}.json"
    output = setting.folder / f"logs/schemathesis-{seed}.log"
    report.unlink(missing_ok=True)
    examples = setting.some(EXAMPLES // len(setting.seeds), 10)
    with setting.serve(f"document-{seed}") as server, output.open("w") as log:
        command: list[str | Path] = [program, "run", f"http://127.0.0.1:{server.port}/openapi.json", "--no-shrink"]
        command += ["--seed", str(seed), "--phases", "examples,coverage,fuzzing,stateful", "-n", str(examples)]
        command += ["-c", ",".join(CHECKS), "--continue-on-failure", "--report", "json", "--report-json-path", report]
        hooks = {**os.environ, "SCHEMATHESIS_HOOKS": "benchmarks.reliability.hooks", "PYTHONPATH": str(ROOT)}
        subprocess.run(command, stdout=log, stderr=log, env=hooks, cwd=setting.folder, check=False, timeout=1800)
    try:
        found = json.loads(report.read_text())
    except (OSError, ValueError) as error:
        raise Failure(f"schemathesis left no report: see {output}") from error
    return {
        "seed": seed,
        "version": found["schemathesis_version"],
        "operations": found["operations"]["tested"],
        "cases": found["test_cases"]["generated"],
        "failures": [{"title": one["title"], "operations": one["operations"]} for one in found["failures"]],
        "errors": len(found["errors"]),
        "seconds": found["running_time"],
    }


def render(result: Mapping[str, Any]) -> str:
    """As the page has it."""
    rows, cases, good = [], 0, True
    for run in result["runs"]:
        failures = "; ".join(f"{one['title']}: {', '.join(one['operations'])}" for one in run["failures"])
        rows.append([str(run["seed"]), f"{run['cases']:,}", str(run["operations"]), f"{run['seconds']:.0f} s",
                     failures or "none", str(run["errors"])])  # fmt: skip
        cases += run["cases"]
        good = good and not run["failures"] and not run["errors"]
    head = ["seed", "cases", "operations", "time", "failures", "errors of schemathesis"]
    return (
        f"schemathesis {result['version']}, {cases:,} cases in all; at least {LEAST_CASES:,} without a failure: "
        f"{verdict(good and cases >= LEAST_CASES)}.\n\n{table(head, rows)}"
    )


def _installed() -> Path:
    program = ENVIRONMENT / "bin/st"
    if not program.exists():
        pip: list[str | Path] = [
            ENVIRONMENT / "bin/python",
            "-m",
            "pip",
            "install",
            "--quiet",
            "--disable-pip-version-check",
        ]
        try:
            subprocess.run([sys.executable, "-m", "venv", ENVIRONMENT], check=True)
            subprocess.run([*pip, f"schemathesis=={VERSION}"], check=True)
        except subprocess.CalledProcessError as error:
            raise Failure(f"schemathesis cannot be installed into {ENVIRONMENT}: {error}") from error
    return program
