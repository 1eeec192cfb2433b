"""Brings the records of another leaderboard into this one: from another machine, or from somebody else.

A record is known by its train key. One that is new comes as it is. Where both have it, readings and metrics that are not here are added, each with all
that belongs to its numbers (intervals, draws, details, keys); what is here stays, and numbers that differ are kept as disputes, never averaged.
"""

import json
from collections.abc import Collection, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple

from sae_bench_htopk import lock, plan, records
from sae_bench_htopk.disputes import Dispute, between, place
from sae_bench_htopk.errors import InputError
from sae_bench_htopk.recording import OF_METRICS
from sae_bench_htopk.records import Record
from sae_bench_htopk.sharing import another

Row = dict[str, Any]


class Merged(NamedTuple):
    """What became of a record: how it is to be, what it gained, and what is to be said."""

    record: Record
    gained: int  # numbers that were not here
    disputes: tuple[Dispute, ...] = ()  # found now
    said: tuple[str, ...] = ()  # why something was not taken over


def merge(source: Path, root: Path) -> tuple[list[str], list[str]]:
    """Merges all suites of one leaderboard folder into another: (what was done, what is disputed or was not taken over), a sentence each.

    Raises InputError if there are no records, RecordError before anything is written if one cannot be read,
    LockedError while a run writes to one of the suites, and StorageError if the disk refuses.
    """
    if not (found := sorted(source.glob("*/*.json"))):
        raise InputError(f"{source}: holds no records, wanted a leaderboard folder with <suite>/<train key>.json in it")
    with ExitStack() as held:
        for suite in sorted({path.parent.name for path in found}):
            held.enter_context(lock.held(plan.lock_path(root.parent, suite)))  # no run writes records meanwhile
        return written([(path, root / path.parent.name / path.name, records.read(path)) for path in found])


def written(found: Sequence[tuple[Path, Path, Record]]) -> tuple[list[str], list[str]]:
    """Merges each record into its place here, and says so."""
    done, doubts = list[str](), list[str]()
    merged = [(path, target, join(records.read(target), theirs) if target.is_file() else new(theirs)) for path, target, theirs in found]
    for path, target, (record, gained, disputes, said) in merged:
        if gained or disputes:
            records.write(target.parent, record)
            done.append(f"{target}: {gained:,} numbers from {path}")
        doubts += [f"{target}: {one['column']} at {one['reading']} is {one['here']} here and {one['there']} in {path}" for one in disputes]
        doubts += [f"{path}: {sentence}" for sentence in said]
    return done, doubts


def new(record: Record) -> Merged:
    """A record that is not here yet."""
    return Merged(record, sum(numbers(row["values"]) for row in record["rows"]))


def numbers(values: Mapping[str, Any]) -> int:
    """How many of them are there."""
    return sum(value is not None for value in values.values())


def join(mine: Record, theirs: Record) -> Merged:
    """Two records of one train key as one; neither is changed."""
    if differing := another(mine, theirs):
        return Merged(mine, 0, (), (f"was measured on another {' and '.join(differing)} than the record here, which stays as it is",))
    same = same_weights(mine, theirs)
    made, runs = dict(mine), dict(mine.get("measured", {}))
    rows, gained, disputes, said = {place(row): row for row in mine["rows"]}, 0, list[Dispute](), list[str]()
    for row in theirs["rows"]:
        before = rows.get(place(row)) or without_numbers(row)
        for metric in sorted({column.partition(".")[0] for column in row["values"]}):
            here, there = (of_metrics(one, {metric})["values"] for one in (before, row))
            if same and numbers(here) == 0 and (numbers(there) or not here):
                before = taken_over(before, row, metric, run_name(row, metric, theirs, runs))
                gained += numbers(there)
            elif numbers(here) and code_of(before, metric) != code_of(row, metric):
                said.append(f"{metric} was measured by other code than here, which makes it another measurement; the numbers here stay")
            elif numbers(here):
                disputes += between(before, row, metric, (measurer(mine, before, metric), measurer(theirs, row, metric)))
        if place(row) in rows or before["values"]:
            rows[place(row)] = before
    if not same:
        said.append("was trained apart from the record here, with the same settings: its further numbers are of other weights and were not taken over")
    fresh = [one for one in disputes if one not in mine.get("disputes", [])]
    made |= {"rows": sorted(rows.values(), key=lambda row: (row["variant"], str(sorted(row["reading"].items(), key=str))))}
    made |= ({"measured": runs} if runs else {}) | ({"disputes": [*mine.get("disputes", []), *fresh]} if fresh else {})
    return Merged(made, gained, tuple(fresh), tuple(dict.fromkeys(said)))


def without_numbers(row: Row) -> Row:
    """A row of which nothing was measured yet; why it was not asked for some metrics stays."""
    measured = {column.partition(".")[0] for column in row["values"]}
    unasked = {key: reason for key, reason in row["missing"].items() if key.partition(".")[0] not in measured}
    return {**row, **{part: {} for part in OF_METRICS if part in row}, "missing": unasked}


def same_weights(mine: Record, theirs: Record) -> bool:
    """Whether both measured one training, by the run that made it, or by a loss that was the same to the last digit all along."""
    return mine["provenance"] == theirs["provenance"] or (bool(mine["curve"]) and mine["curve"] == theirs["curve"])


def taken_over(before: Row, row: Row, metric: str, run: str | None) -> Row:
    """A row with all of one metric from another row, and nothing of it from its own."""
    metrics = {key.partition(".")[0] for part in OF_METRICS if isinstance(before.get(part), Mapping) for key in before[part]} - {metric}
    kept, added = of_metrics(before, metrics), of_metrics(row, {metric})
    if run is not None and "measured" in added:
        added["measured"] = {metric: run}
    return {**before, **{part: {**kept.get(part, {}), **added.get(part, {})} for part in OF_METRICS if part in kept or part in added}}


def of_metrics(row: Mapping[str, Any], names: Collection[str]) -> Row:
    """What a row holds of some metrics."""
    held = {part: row[part] for part in OF_METRICS if isinstance(row.get(part), Mapping)}
    return {part: {key: value for key, value in by.items() if key.partition(".")[0] in names} for part, by in held.items()}


def code_of(row: Row, metric: str) -> str | None:
    """The key of what measured it; rows of an earlier form have none."""
    return row["keys"].get(metric) if isinstance(row.get("keys"), Mapping) else None


def run_name(row: Row, metric: str, theirs: Record, runs: dict[str, Any]) -> str | None:
    """The name of the run that measured a metric of their row, among `runs`, to which it is added; another name where two began in one second."""
    when = row["measured"].get(metric) if isinstance(row.get("measured"), Mapping) else None
    if when is None or not isinstance(run := theirs.get("measured", {}).get(when), Mapping):
        return when
    name, turn = when, 1
    while runs.get(name, run) != run:
        name, turn = f"{when} ({turn + 1})", turn + 1
    runs[name] = run
    return str(name)


def measurer(record: Record, row: Row, metric: str) -> str:
    """Who measured a metric of a row, in words."""
    when = row["measured"].get(metric) if isinstance(row.get("measured"), Mapping) else row.get("measured")
    run = record.get("measured", {}).get(when) if isinstance(when, str) else None
    trained = record["provenance"]
    if not isinstance(run, Mapping):
        return f"not known; trained on {trained.get('machine', 'a machine not known')}, {trained.get('when', 'date not known')}"
    said = f"{run.get('machine', 'a machine not known')}, {run.get('when', when)}"
    return (
        said if json.dumps(run.get("machine")) == json.dumps(trained.get("machine")) else f"{said}; trained on {trained.get('machine', 'a machine not known')}"
    )
