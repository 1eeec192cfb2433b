"""Brings the records of another leaderboard into this one: from another machine, or from somebody else.

A record is known by its train key. One that is new comes as it is. Where both have it, readings and metrics that are not here are added, each with all
that belongs to its numbers (intervals, draws, details, keys); what is here stays, and numbers that differ are kept as disputes, never averaged.
"""

from collections.abc import Collection, Mapping, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any, NamedTuple

from sae_bench_htopk import lock, plan, records
from sae_bench_htopk.disputes import Dispute, compare, disputed, metrics_of, place, summary
from sae_bench_htopk.errors import InputError
from sae_bench_htopk.recording import OF_METRICS
from sae_bench_htopk.records import Record
from sae_bench_htopk.sharing import another, common

Row = dict[str, Any]


class Merged(NamedTuple):
    """What became of a record: how it is to be, what it gained, and what is to be said."""

    record: Record
    gained: int  # numbers that were not here
    disputes: tuple[Dispute, ...] = ()  # that stand between the two, also where an earlier merge found them
    said: tuple[str, ...] = ()  # why something was not taken over
    noted: int = 0  # disputes that the record did not hold yet


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
    """Merges each record into its place here, and says so: a line for what was done with it, and one for all that is doubtful."""
    done, doubts = list[str](), list[str]()
    folders = {target.parent for _, target, _ in found}
    shown = {folder: shown_in(folder) for folder in folders}
    merged = [(path, target, join(records.read(target), theirs) if target.is_file() else new(theirs, shown[target.parent])) for path, target, theirs in found]
    for path, target, one in merged:
        if one.gained or one.noted:
            records.write(target.parent, one.record)
            added = ([f"{one.gained:,} numbers"] if one.gained else []) + ([f"{one.noted:,} dispute{'s' * (one.noted != 1)}"] if one.noted else [])
            done.append(f"{target}: {' and '.join(added)} from {path}")
        if sentences := [*disputed(one.disputes), *one.said]:
            doubts.append(f"{target}, from {path}: {'; '.join(sentences)}")
    return done, doubts


def shown_in(folder: Path) -> Record | None:
    """A record of the text and model that a suite's page shows; None if it has no records. One that cannot be read is no reason to refuse others."""
    held = list[Record]()
    for path in sorted(folder.glob("*.json")):
        with suppress(records.RecordError):
            held.append(records.read(path))
    return common(held)[0] if held else None


def new(record: Record, shown: Record | None = None) -> Merged:
    """A record that is not here yet; `shown` is one of those that its suite's page shows."""
    differing = another(record, shown) if shown is not None else []
    said = (f"is of another {' and '.join(differing)} than most records of this suite here, and never shares a table with them",) if differing else ()
    return Merged(record, sum(numbers(row["values"]) for row in record["rows"]), (), said)


def numbers(values: Mapping[str, Any]) -> int:
    """How many of them are there."""
    return sum(value is not None for value in values.values())


def join(mine: Record, theirs: Record) -> Merged:
    """Two records of one train key as one; neither is changed."""
    if differing := another(mine, theirs):
        return Merged(mine, 0, (), (f"was measured on another {' and '.join(differing)} than the record here, which stays as it is",))
    mine, theirs = by_metric(mine), by_metric(theirs)
    compared = compare(mine, theirs)
    same = same_weights(mine, theirs, agree=compared.numbers > 0 and not compared.disputes)
    disputes, said = compared.disputes if same else summary(compared.disputes, compared.numbers), compared.said
    rows, runs, gained, withheld = filled(mine, theirs, same)
    if withheld:
        said.append(
            f"was trained apart from the record here, with the same settings: {withheld:,} further numbers are of other weights and were not taken over"
        )
    fresh = [one for one in disputes if one not in mine.get("disputes", [])]
    made = mine | {"rows": sorted(rows, key=lambda row: (row["variant"], str(sorted(row["reading"].items(), key=str))))}
    made |= ({"measured": runs} if runs else {}) | ({"disputes": [*mine.get("disputes", []), *fresh]} if fresh else {})
    return Merged(made, gained, tuple(disputes), tuple(dict.fromkeys(said)), len(fresh))


def filled(mine: Record, theirs: Record, same: bool) -> tuple[list[Row], dict[str, Any], int, int]:
    """(my rows with what only theirs have, if the weights are the same; the runs that they name; numbers added; numbers withheld)."""
    rows, runs, gained, withheld = {place(row): row for row in mine["rows"]}, dict(mine.get("measured", {})), 0, 0
    for row in theirs["rows"]:
        before = rows.get(place(row)) or without_numbers(row)
        for metric in metrics_of(row):
            here, there = (of_metrics(one, {metric})["values"] for one in (before, row))
            if numbers(here) or not (numbers(there) or not here):
                continue
            if same:
                before = taken_over(before, row, metric, run_name(row, metric, theirs, runs))
                gained += numbers(there)
            else:
                withheld += numbers(there)
        if place(row) in rows or before["values"]:
            rows[place(row)] = before
    return list(rows.values()), runs, gained, withheld


def by_metric(record: Record) -> Record:
    """The record with the run of each metric in its rows; in the earlier form a row names one run for all, and the record holds that run alone."""
    rows = [{**row, "measured": dict.fromkeys(metrics_of(row), row["measured"])} if isinstance(row.get("measured"), str) else row for row in record["rows"]]
    run = record.get("measured", {})
    return {**record, "rows": rows, **({"measured": {run["when"]: run}} if isinstance(run.get("when"), str) else {})}


def without_numbers(row: Row) -> Row:
    """A row of which nothing was measured yet; why it was not asked for some metrics stays."""
    measured = {column.partition(".")[0] for column in row["values"]}
    unasked = {key: reason for key, reason in row["missing"].items() if key.partition(".")[0] not in measured}
    return {**row, **{part: {} for part in OF_METRICS if part in row}, "missing": unasked}


def same_weights(mine: Record, theirs: Record, agree: bool) -> bool:
    """Whether both measured one training: by the run that made it, a loss the same to the last digit all along, or, of what has no loss, by its numbers."""
    if not mine["curve"] and not theirs["curve"]:
        return agree or bool(mine["provenance"] == theirs["provenance"])
    return bool(mine["provenance"] == theirs["provenance"] or mine["curve"] == theirs["curve"])


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
