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

VERSION = "4.32.5"
LEAST_CASES = 10_000
EXAMPLES = 320
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
    """Install schemathesis where it is not yet, in an environment of its own, and run it against the service."""
    program = _installed()
    report = setting.folder / "schemathesis.json"
    output = setting.folder / "logs/schemathesis.log"
    with setting.serve("document") as server, output.open("w") as log:
        command: list[str | Path] = [
            program,
            "run",
            f"http://127.0.0.1:{server.port}/openapi.json",
            "--seed",
            "1",
            "--no-shrink",
        ]
        command += ["--phases", "examples,coverage,fuzzing,stateful", "-n", str(setting.some(EXAMPLES, 10))]
        command += ["-c", ",".join(CHECKS), "--continue-on-failure", "--report", "json", "--report-json-path", report]
        hooks = {**os.environ, "SCHEMATHESIS_HOOKS": "benchmarks.reliability.hooks", "PYTHONPATH": str(ROOT)}
        subprocess.run(command, stdout=log, stderr=log, env=hooks, cwd=setting.folder, check=False, timeout=600)
        rss_mb = server.rss_mb()
    try:
        found = json.loads(report.read_text())
    except (OSError, ValueError) as error:
        raise Failure(f"schemathesis left no report: see {output}") from error
    return {
        "version": found["schemathesis_version"],
        "operations": found["operations"]["tested"],
        "cases": found["test_cases"]["generated"],
        "failures": [{"title": one["title"], "operations": one["operations"]} for one in found["failures"]],
        "errors": len(found["errors"]),
        "seconds": found["running_time"],
        "rss_mb": rss_mb,
    }


def render(result: Mapping[str, Any]) -> str:
    """As the page has it."""
    failures = "; ".join(f"{one['title']}: {', '.join(one['operations'])}" for one in result["failures"])
    good = not result["failures"] and not result["errors"] and result["cases"] >= LEAST_CASES
    return (
        f"schemathesis {result['version']}, seed 1: {result['cases']:,} cases over {result['operations']} operations "
        f"in {result['seconds']:.0f} s; failures: {failures or 'none'}. At least {LEAST_CASES:,} without one: "
        f"{verdict(good)}."
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
