"""The page of what was counted: Markdown tables, and how many cells lie where they should."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator
from pathlib import Path

from scipy.stats import binom

from benchmarks.false_alarms.grouped import BY_OWN
from benchmarks.false_alarms.tally import ALPHAS, FIRST, SLACK, Tally
from service.scores import SCORE_OUTPUTS

Cells = dict[str, Tally]


def page(folder: Path) -> str:
    """Every section whose counts are in *folder*."""
    parts = []
    if (file := folder / "known.json").exists():
        parts.append("\n".join(("### Known distributions\n", *_known(_kept(file)))))
    pools = {file.stem.removeprefix("pool-"): _kept(file) for file in sorted(folder.glob("pool-*.json"))}
    if pools:
        parts.append("\n".join(("### One model, its held-out rows dealt out\n", *_pools(pools))))
    if missing := {file.stem.removeprefix("random-"): _counted(file) for file in sorted(folder.glob("random-*.jsonl"))}:
        parts.append("\n".join(("### Values missing at random\n", *_pools(missing))))
    if (file := folder / "fresh.jsonl").exists():
        parts.append("\n".join(("### Everything anew for each split\n", *_fresh(_counted(file)))))
    dealt = {file.stem.removeprefix("dealt-"): _counted(file) for file in sorted(folder.glob("dealt-*.jsonl"))}
    if dealt:
        parts.append("\n".join(("### Small tables, fitted anew for each split\n", *_dealt(dealt))))
    small = {file.stem.removeprefix("crossed-"): _counted(file) for file in sorted(folder.glob("crossed-*.jsonl"))}
    if small:
        parts.append("\n".join(("### Ensembles of folds, fitted anew for each split\n", *_crossed(small))))
    if (file := folder / "groups.json").exists():
        parts.append("\n".join(("### Groups\n", *_groups(_kept(file)))))
    if (file := folder / "together.md").exists():
        parts.append(f"### Rows flagged together\n\n{file.read_text().strip()}")
    return "\n\n".join(parts)


def _kept(file: Path) -> Cells:
    return {key: Tally.of(kept) for key, kept in json.loads(file.read_text()).items()}


def _counted(file: Path) -> Cells:
    cells: Cells = {}
    for line in file.read_text().splitlines():
        for key, (n, m, flagged) in json.loads(line).items():
            cells.setdefault(key, Tally()).add(flagged, n, m, float(key.rsplit("|", 1)[1]))
    return cells


def _known(cells: Cells) -> Iterator[str]:
    yield "| scores | n = m | alpha | flagged | by the law | inside, of 200 | of all | by the law |"
    yield "| --- | --- | --- | --- | --- | --- | --- | --- |"
    for key, tally in cells.items():
        name, n, _, alpha = key.split("|")
        yield _line(name, n, alpha, *_rates(tally), _first(tally), *_shares(tally))
    yield f"\n{next(iter(cells.values())).splits:,} splits each."


def _pools(pools: dict[str, Cells]) -> Iterator[str]:
    yield (
        "| rows | missing | alpha | flagged, by kind and bin | by the law | cells | near the law | by chance "
        "| inside, of all splits | by the law |"
    )
    yield "| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |"
    for name, cells in pools.items():
        for what in dict.fromkeys(key.split("|")[1] for key in cells):
            for alpha in map(str, ALPHAS):
                some = [tally for key, tally in cells.items() if key.split("|")[1] == what and key.endswith(alpha)]
                rates = [tally.flagged / tally.rows for tally in some]
                asked = sum(tally.mean for tally in some) / sum(tally.rows for tally in some)
                yield _line(
                    name,
                    what,
                    alpha,
                    _range(rates, 4),
                    f"{asked:.4f}",
                    str(len(some)),
                    str(sum(tally.held for tally in some)),
                    f"{sum(map(_chance_to_hold, some)):.1f}",
                    _range([100 * tally.inside / tally.splits for tally in some], 1),
                    _range([100 * tally.chance / tally.splits for tally in some], 1),
                )
    every = [tally for cells in pools.values() for tally in cells.values()]
    yield "\n" + _verdict(every)
    told = (f"{name} {max(tally.splits for tally in cells.values()):,}" for name, cells in pools.items())
    yield f"Splits: {', '.join(told)}."


def _groups(cells: Cells) -> Iterator[str]:
    yield "| rows of | judged by | alpha | flagged, by kind | by the law | near it | inside, of splits | by the law |"
    yield "| --- | --- | --- | --- | --- | --- | --- | --- |"
    for name, by in dict.fromkeys(tuple(key.split("|")[1:3]) for key in cells):
        for alpha in map(str, ALPHAS):
            some = [tally for key, tally in cells.items() if key.split("|")[1:] == [name, by, alpha]]
            if some:
                yield _line(
                    name,
                    by,
                    alpha,
                    _range([tally.flagged / tally.rows for tally in some], 4),
                    f"{some[0].mean / some[0].rows:.4f}",
                    f"{sum(tally.held for tally in some)} of {len(some)}",
                    _range([100 * tally.inside / tally.splits for tally in some], 1),
                    _range([100 * tally.chance / tally.splits for tally in some], 1),
                )
    yield "\nBy its own rows: " + _verdict(tally for key, tally in cells.items() if f"|{BY_OWN}|" in key)


def _fresh(cells: Cells) -> Iterator[str]:
    yield from _by_kind("missing", {f"{what}, bin {bin_}": some for (what, bin_), some in _grouped(cells).items()})
    yield "\n" + _verdict(cells.values())


def _dealt(tables: dict[str, Cells]) -> Iterator[str]:
    yield from _by_kind("table", tables)
    yield "\n" + _verdict(tally for cells in tables.values() for tally in cells.values())


def _crossed(tables: dict[str, Cells]) -> Iterator[str]:
    yield "| table | splits | m | alpha | kind | flagged | by the law of rows set apart | inside | by that law |"
    yield "| --- | --- | --- | --- | --- | --- | --- | --- | --- |"
    for name, cells in tables.items():
        for key, tally in cells.items():
            kind, _, _, alpha = key.split("|")
            sizes = str(tally.splits), f"{tally.rows / tally.splits:.0f}"
            yield _line(name, *sizes, alpha, kind, *_rates(tally), *_shares(tally))


def _by_kind(what: str, groups: dict[str, Cells]) -> Iterator[str]:
    yield f"| {what} | splits | m | alpha | flagged by nll | by the law | {' | '.join(SCORE_OUTPUTS)} | by the law |"
    yield "| --- | --- | --- | --- | --- | --- | " + " | ".join("---" for _ in SCORE_OUTPUTS) + " | --- |"
    for name, cells in groups.items():
        for alpha in map(str, ALPHAS):
            some = [
                next((t for key, t in cells.items() if key.startswith(f"{kind}|") and key.endswith(f"|{alpha}")), None)
                for kind in SCORE_OUTPUTS
            ]
            found = [tally for tally in some if tally is not None]
            if found:
                one = found[0]
                sizes = f"{one.rows / one.splits:.0f}"
                law = _range([100 * tally.chance / tally.splits for tally in found], 1)
                yield _line(name, str(one.splits), sizes, alpha, *_rates(one), *map(_first, found), law)


def _grouped(cells: Cells) -> dict[tuple[str, int], Cells]:
    found: dict[tuple[str, int], Cells] = {}
    for key, tally in cells.items():
        _, what, bin_, _ = key.split("|")
        found.setdefault((what, int(bin_)), {})[key] = tally
    return dict(sorted(found.items()))


def _verdict(tallies: Iterable[Tally]) -> str:
    some = list(tallies)
    held, chance = sum(tally.held for tally in some), sum(map(_chance_to_hold, some))
    order = sorted(tally.deviation for tally in some)
    return (
        f"{held} of {len(some)} cells have a share of their first {FIRST} splits inside that is within "
        f"{100 * SLACK:.0f} points of the law's; {chance:.1f} would by chance. Flagged rows, of all splits, are "
        f"{order[0]:+.1f} to {order[-1]:+.1f} standard errors from the law."
    )


def _chance_to_hold(tally: Tally) -> float:
    """That the share of the first splits is near the law's, if every split has the chance that the law says."""
    splits, chance = min(FIRST, tally.splits), tally.chance / tally.splits
    low, high = math.ceil((chance - SLACK) * splits), math.floor((chance + SLACK) * splits)
    return float(binom.cdf(high, splits, chance) - binom.cdf(low - 1, splits, chance))


def _rates(tally: Tally) -> tuple[str, str]:
    return f"{tally.flagged / tally.rows:.4f}", f"{tally.mean / tally.rows:.4f}"


def _shares(tally: Tally) -> tuple[str, str]:
    return f"{100 * tally.inside / tally.splits:.1f}", f"{100 * tally.chance / tally.splits:.1f}"


def _first(tally: Tally) -> str:
    return f"{100 * tally.share:.1f}" if tally.held else f"**{100 * tally.share:.1f}**"


def _range(values: list[float], digits: int) -> str:
    low, high = f"{min(values):.{digits}f}", f"{max(values):.{digits}f}"
    return low if low == high else f"{low} to {high}"


def _line(*cells: str) -> str:
    return "| " + " | ".join(cells) + " |"
