"""
Do false-alarm rates hold? How often the flagged share of held-out normals lies inside its 90 % interval.

    python -m benchmarks.false_alarms known | together | pools | random | fresh | dealt | crossed | groups | page

`known`: scores of known distributions. `together`: false discoveries among such scores. `pools`: one model a data set,
random partitions of rows that it has not seen. `random`: the same with values missing at random. `fresh`: everything
drawn and fitted anew for each split, judged by the service's own code. `dealt`: the tables of benchmarks/missing.md,
fitted anew for each split. `crossed`: ensembles of folds, fitted anew for each split of small tables. `groups`: one
model, rows calibrated by site and all together. Each keeps its counts in --output; pools, random, fresh, dealt and
crossed go on where they stopped. `page` prints the page of what is there. --data is the folder of the data sets
(adbench/*.npz, mnist/).
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.false_alarms import crossed, grouped, known, page, pools, refits, together
from benchmarks.false_alarms.tally import Tally
from service.engine import Engine
from training.by_modules import scorer
from training.export import export_graphs


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure a part, or print the page."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.false_alarms", description=__doc__)
    add = parser.add_argument
    add("part", choices=("known", "together", "pools", "random", "fresh", "dealt", "crossed", "groups", "page"))
    add("--data", type=Path, default=Path("../shared/data"), help="folder of the data sets")
    add("--output", type=Path, default=Path("build/false-alarms"), help="folder of the counts")
    add("--splits", type=int, default=0, help="default 5000 for known, together, 1000 for pools, groups, else 200")
    add(
        "--epochs",
        type=int,
        default=30,
        help="of fits of fresh, dealt, crossed, groups; those of pools are `vae-train fit`'s",
    )
    add("--minutes", type=float, default=8, help="no new fit after that")
    options = parser.parse_args(arguments)
    options.output.mkdir(parents=True, exist_ok=True)
    until = time.monotonic() + 60 * options.minutes
    if options.part == "page":
        print(page.page(options.output))
    elif options.part in ("known", "groups"):
        groups = options.part == "groups"
        found = (
            grouped.measure(options.splits or 1000, options.epochs) if groups else known.measure(options.splits or 5000)
        )
        _keep(options.output / f"{options.part}.json", found)
    elif options.part == "together":
        (options.output / "together.md").write_text("\n".join(together.lines(options.splits or 5000)) + "\n")
    elif options.part == "pools":
        for name in pools.names(options.data):
            file = options.output / f"pool-{name}.json"
            if not file.exists() and time.monotonic() < until:
                print(name, file=sys.stderr)
                pool = pools.pool(options.data, name)
                graphs = export_graphs(pools.fitted(pool), ("scorer",))
                engine = Engine({"scorer": graphs["scorer"]}, threads=1)
                _keep(file, pools.measure(pool, engine, options.splits or 1000))
    elif options.part == "random":
        for name in pools.AT_RANDOM:
            file = options.output / f"random-{name}.jsonl"
            if name in pools.names(options.data) and time.monotonic() < until:
                pool = pools.pool(options.data, name)
                masked = pools.AtRandom(pool, scorer(pools.fitted(pool)))
                _each(file, options.splits or 200, until, masked.split)
    elif options.part == "fresh":
        _each(options.output / "fresh.jsonl", options.splits or 200, until, lambda s: refits.fresh(s, options.epochs))
    else:
        tables, one = (crossed.tables, crossed.crossed) if options.part == "crossed" else (refits.tables, refits.dealt)
        for table in tables(options.data):
            name = table.name.split(":")[0]
            file = options.output / f"{options.part}-{name.replace(' ', '-')}.jsonl"
            _each(file, options.splits or 200, until, partial(one, table, epochs=options.epochs))
    return 0


def _keep(file: Path, found: dict[str, Tally]) -> None:
    file.write_text(json.dumps({key: tally.as_json() for key, tally in found.items()}, indent=0) + "\n")


def _each(file: Path, splits: int, until: float, one: Callable[[int], dict[str, Any]]) -> None:
    """A line a split, those that are not there yet, in order."""
    done = len(file.read_text().splitlines()) if file.exists() else 0
    for split in range(done, splits):
        if time.monotonic() > until:
            print(f"{file}: {split} of {splits} splits; the same command goes on", file=sys.stderr)
            return
        line = json.dumps(one(split))
        with file.open("a") as to:
            to.write(line + "\n")


if __name__ == "__main__":
    sys.exit(main())
