"""Every number of the records as tidy rows, for whoever wants to count for themselves: one row for each SAE, seed, reading and column, as CSV or JSON."""

import csv
import io
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from sae_bench_htopk import records
from sae_bench_htopk.records import Record, share_of
from sae_bench_htopk.saes import L0, reason_of, value_of
from sae_bench_htopk.sharing import newest

Row = Mapping[str, Any]
NAMES = (
    "suite", "train_key", "variant", "trained_as", "config", "latents", "seed", "rate", "tokens", "share", "control", "select", "native", "k",
    "read_latents", "cut", "rank", "l0", "column", "value", "reason", "low", "high", "model", "held_out", "left_out",
)  # fmt: skip


def of_suite(root: Path, suite: str) -> Iterator[dict[str, Any]]:
    """The rows of a suite's records, by file name; those that its page leaves out say so. Raises RecordError as `records.read` does."""
    found = records.read_all(root / suite)
    left_out = dict(sentence.split(".json: ", 1) for sentence in newest(found)[1])
    for record in found:
        for row in record["rows"]:
            where = whose(record, row) | {"left_out": left_out.get(record["train_key"])}
            for column in columns(row):
                yield {name: (where | number(row, column))[name] for name in NAMES}


def whose(record: Record, row: Row) -> dict[str, Any]:
    """Which SAE, and how it was read."""
    sae, reading = record["sae"], row["reading"]
    return {
        "suite": record["suite"], "train_key": record["train_key"], "variant": row["variant"], "trained_as": sae["variant"], "config": row["config"],
        "latents": sae["latents"], "seed": sae["seed"], "rate": record["settings"].get("rate"), "tokens": record["cost"].get("train_tokens"),
        "share": share_of(record), "control": sae["control"], "select": reading["select"], "native": row["native"], "k": reading["k"],
        "read_latents": reading["latents"] or sae["latents"], "cut": reading["cut"], "rank": reading["rank"], "l0": value_of(row, L0),
        "model": record["model"].get("fingerprint"), "held_out": record["text"].get("held_out"),
    }  # fmt: skip


def columns(row: Row) -> list[str]:
    """Its columns, and the metrics that it has nothing of, each with a reason."""
    return sorted({*row["values"], *row["missing"]})


def number(row: Row, column: str) -> dict[str, Any]:
    """One number with its 95% interval over documents, or the reason for having none."""
    value = row["values"].get(column)
    low, high = row.get("intervals", {}).get(column) or (None, None)
    return {"column": column, "value": value, "reason": reason_of(row, column) if value is None else None, "low": low, "high": high}


def as_csv(root: Path, suites: Sequence[str]) -> Iterator[str]:
    """A header, and a line for each row; settings as JSON, what is not there as nothing."""
    yield line_of(NAMES)
    for suite in suites:
        for row in of_suite(root, suite):
            yield line_of([json.dumps(value, sort_keys=True) if isinstance(value, dict) else value for value in row.values()])


def line_of(values: Sequence[Any]) -> str:
    """One line of CSV, without its end."""
    csv.writer(line := io.StringIO(), lineterminator="").writerow(values)
    return line.getvalue()


def as_json(root: Path, suites: Sequence[str]) -> Iterator[str]:
    """The lines of a list of objects, one a line."""
    before = "["
    for suite in suites:
        for row in of_suite(root, suite):
            yield before + json.dumps(row, sort_keys=False, allow_nan=False, ensure_ascii=False)
            before = ","
    yield "]" if before == "," else "[]"


LINES: Mapping[str, Callable[[Path, Sequence[str]], Iterator[str]]] = {"csv": as_csv, "json": as_json}
