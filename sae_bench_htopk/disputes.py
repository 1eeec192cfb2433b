"""Numbers that two machines measured of one SAE and that differ: what a record keeps of them, and what its page says."""

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from sae_bench_htopk.board import Board
from sae_bench_htopk.markdown import Table, fold, rounded
from sae_bench_htopk.records import Record
from sae_bench_htopk.saes import reason_of

SAME = 1e-6  # relative: what two machines' arithmetic alone may make of one number
NOTHING = 1e-12  # absolute: numbers this near to each other are the same, also beside a zero
LISTED = 50  # disputes on a page, the largest; records keep all
DISPUTED = (
    "Records of these SAEs were merged that do not agree: the same number was measured twice, and came out differently. Nothing is averaged: the number on "
    f"this page is the one under *here*, which was there first. Numbers within {SAME:g} of each other, relative, count as the same. Of weights that were "
    "trained apart, with the same settings, a record keeps one line: how many numbers differ, and the one that differs most."
)
Row = Mapping[str, Any]
Dispute = dict[str, Any]


class Compared(NamedTuple):
    """What two records of one train key say of the numbers that both have."""

    numbers: int
    disputes: list[Dispute]
    said: list[str]  # what could not be compared


def differs(one: float | None, other: float | None) -> bool:
    """Whether two answers to one question are not the same; a number and none are not."""
    return one is not other and (one is None or other is None or abs(one - other) > SAME * max(abs(one), abs(other), NOTHING / SAME))


def between(here: Row, there: Row, metric: str, runs: tuple[str, str]) -> Iterator[Dispute]:
    """What two rows of one reading do not agree on, of one metric; `runs` are who measured each."""
    columns = [column for column in (here["values"] | there["values"]) if column.partition(".")[0] == metric]
    for column in sorted(columns):
        mine, theirs = here["values"].get(column), there["values"].get(column)
        if differs(mine, theirs):
            made = {"here": mine, "there": theirs, "measured_here": runs[0], "measured_there": runs[1]}
            reasons = {place: reason_of(row, column) for place, row in (("here", here), ("there", there)) if row["values"].get(column) is None}
            yield {"variant": here["variant"], "config": here["config"], "reading": here["reading"], "column": column, **made, "missing": reasons}


def size(one: Dispute) -> float:
    """The relative difference of the two numbers; where one is missing, the most that it can be."""
    here, there = one["here"], one["there"]
    return 2.0 if here is None or there is None else float(abs(here - there) / max(abs(here), abs(there)))


def summary(found: Sequence[Dispute], compared: int) -> list[Dispute]:
    """One for all between weights trained apart, whose every number differs a little: the largest, with how many there are."""
    if not found:
        return []
    largest = max(found, key=lambda one: (not one["missing"], size(one)))
    return [{**largest, "trained_apart": {"compared": compared, "differ": len(found), "largest": size(largest)}}]


def compare(mine: Record, theirs: Record) -> Compared:
    """The numbers of each metric that both measured of a reading, by the same code."""
    rows, count, disputes, said = {place(row): row for row in mine["rows"]}, 0, list[Dispute](), list[str]()
    for row in theirs["rows"]:
        if (here := rows.get(place(row))) is None:
            continue
        for metric in metrics_of(row):
            if not (shared := sum(value is not None for column, value in here["values"].items() if column.partition(".")[0] == metric)):
                continue
            if code_of(here, metric) != code_of(row, metric):
                said.append(f"{metric} was measured by other code than here, which makes it another measurement; the numbers here stay")
                continue
            count += shared
            disputes += between(here, row, metric, (measurer(mine, here, metric), measurer(theirs, row, metric)))
    return Compared(count, disputes, said)


def metrics_of(row: Row) -> list[str]:
    """The metrics that a row has answers of."""
    return sorted({column.partition(".")[0] for column in row["values"]})


def code_of(row: Row, metric: str) -> str | None:
    """The key of what measured it; rows of an earlier form have none."""
    return row["keys"].get(metric) if isinstance(row.get("keys"), Mapping) else None


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


def disputed(found: Sequence[Dispute]) -> list[str]:
    """The disputes between two records in one sentence, with the largest."""
    if not found:
        return []
    most = max(found, key=size)
    apart = most.get("trained_apart")
    count = f"{apart['differ']:,} of {apart['compared']:,} numbers, of weights trained apart," if apart else f"{len(found):,} number{'s' * (len(found) != 1)}"
    return [
        f"{count} differ{'s' * (not apart and len(found) == 1)}, the most {most['column']} at {most['reading']}: {most['here']} here, {most['there']} there"
    ]


def standing(record: Record) -> list[Dispute]:
    """Those of a record whose number is still the one that it holds: what was measured again since is settled."""
    rows = {place(row): row["values"] for row in record["rows"]}
    return [one for one in record.get("disputes", []) if not differs(rows.get(place(one), {}).get(one["column"]), one["here"]) and place(one) in rows]


def place(row: Row) -> tuple[str, str, str]:
    """What tells a row of a record, or a dispute over one, from the others."""
    return str(row["variant"]), repr(sorted(row["config"].items())), repr(sorted(row["reading"].items()))


def section(board: Board) -> list[str]:
    """Heading, words and a folded table of the largest; nothing where nothing is disputed."""
    found = [
        (one, stage.label(sae), record["sae"]["seed"])
        for stage in (*board.earlier, board)
        for sae in stage.everything
        for record in sae.records
        for one in standing(record)
        if one["variant"] == sae.variant and one["config"] == sae.config
    ]
    if not found:
        return []
    table = Table("SAE", "seed", "reading", "column", "here", "there", "measured here", "measured there")
    for one, label, seed in sorted(found, key=lambda each: -size(each[0]))[:LISTED]:
        table.add(*cells(one, label, seed))
    rest = len(found) - LISTED
    title = f"{len(found):,} dispute{'s' * (len(found) != 1)}" + (f": the {LISTED} largest; the other {rest:,} stand in the records" if rest > 0 else "")
    return ["## Disputed numbers", DISPUTED, fold(title, table.markdown())]


def cells(one: Dispute, label: str, seed: int) -> tuple[str, ...]:
    """One line of the table; numbers to the digits that tell them apart."""
    reading = ", ".join(f"{key} {value}" for key, value in sorted(one["reading"].items()) if value is not None)
    answers = [one["missing"].get(key, "none") if one[key] is None else rounded(one[key], digits=7) for key in ("here", "there")]
    of = one.get("trained_apart")
    others = f", the most of {of.get('differ', '?')} that differ of {of.get('compared', '?')}, trained apart" if isinstance(of, Mapping) else ""
    return label, str(seed), reading, f"`{one['column']}`{others}", *answers, one["measured_here"], one["measured_there"]
