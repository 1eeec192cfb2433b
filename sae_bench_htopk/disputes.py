"""Numbers that two machines measured of one SAE and that differ: what a record keeps of them, and what its page says."""

from collections.abc import Iterator, Mapping
from typing import Any

from sae_bench_htopk.board import Board
from sae_bench_htopk.markdown import Table, rounded
from sae_bench_htopk.records import Record
from sae_bench_htopk.saes import reason_of

SAME = 1e-6  # relative: what two machines' arithmetic alone may make of one number
DISPUTED = (
    "Records of these SAEs were merged that do not agree: the same number was measured twice, and came out differently. Nothing is averaged: the number on "
    f"this page is the one under *here*, which was there first. Numbers within {SAME:g} of each other, relative, count as the same."
)
Row = Mapping[str, Any]
Dispute = dict[str, Any]


def differs(one: float | None, other: float | None) -> bool:
    """Whether two answers to one question are not the same; a number and none are not."""
    return one is not other and (one is None or other is None or abs(one - other) > SAME * max(abs(one), abs(other)))


def between(here: Row, there: Row, metric: str, runs: tuple[str, str]) -> Iterator[Dispute]:
    """What two rows of one reading do not agree on, of one metric; `runs` are who measured each."""
    columns = [column for column in (here["values"] | there["values"]) if column.partition(".")[0] == metric]
    for column in sorted(columns):
        mine, theirs = here["values"].get(column), there["values"].get(column)
        if differs(mine, theirs):
            made = {"here": mine, "there": theirs, "measured_here": runs[0], "measured_there": runs[1]}
            reasons = {place: reason_of(row, column) for place, row in (("here", here), ("there", there)) if row["values"].get(column) is None}
            yield {"variant": here["variant"], "config": here["config"], "reading": here["reading"], "column": column, **made, "missing": reasons}


def standing(record: Record) -> list[Dispute]:
    """Those of a record whose number is still the one that it holds: what was measured again since is settled."""
    rows = {place(row): row["values"] for row in record["rows"]}
    return [one for one in record.get("disputes", []) if not differs(rows.get(place(one), {}).get(one["column"]), one["here"]) and place(one) in rows]


def place(row: Row) -> tuple[str, str, str]:
    """What tells a row of a record, or a dispute over one, from the others."""
    return str(row["variant"]), repr(sorted(row["config"].items())), repr(sorted(row["reading"].items()))


def section(board: Board) -> list[str]:
    """Heading, words and a table; nothing where nothing is disputed."""
    table = Table("SAE", "seed", "reading", "column", "here", "there", "measured here", "measured there")
    for stage in (*board.earlier, board):
        for sae in stage.everything:
            for record in sae.records:
                for one in (one for one in standing(record) if one["variant"] == sae.variant and one["config"] == sae.config):
                    table.add(*cells(one, stage.label(sae), record["sae"]["seed"]))
    return ["## Disputed numbers", DISPUTED, table.markdown()] if table.lines else []


def cells(one: Dispute, label: str, seed: int) -> tuple[str, ...]:
    """One line of the table; numbers to the digits that tell them apart."""
    reading = ", ".join(f"{key} {value}" for key, value in sorted(one["reading"].items()) if value is not None)
    answers = [one["missing"].get(key, "none") if one[key] is None else rounded(one[key], digits=7) for key in ("here", "there")]
    return label, str(seed), reading, f"`{one['column']}`", *answers, one["measured_here"], one["measured_there"]
