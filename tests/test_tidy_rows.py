"""The records' numbers as data: every one of them, what it is of, and why some are not there."""

import csv
import io
import json
from pathlib import Path

import pandas
import pytest

from sae_bench_htopk import saes, tidy_rows
from sae_bench_htopk.__main__ import main
from tests.test_leaderboard import make, put


@pytest.fixture
def output(tmp_path: Path) -> Path:
    """Two suites: one SAE of two seeds and one left out; a control."""
    old = make("topk", 8) | {"train_key": "old"}
    old["provenance"] = {**old["provenance"], "when": "2026-01-01"}
    put(tmp_path / "leaderboard", [make("topk", 8, 0), make("topk", 8, 1), old])
    put(tmp_path / "leaderboard", [make("pca", 32, control=True)], "other")
    return tmp_path


def test_csv_has_every_number_of_every_record(output: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """As pandas reads it; a number that is not there has its reason."""
    assert main(["leaderboard", "small", "--format", "csv", "--output", str(output)]) == 0
    table = pandas.read_csv(io.StringIO(capsys.readouterr().out))
    assert tuple(table.columns) == tidy_rows.NAMES
    made = make("topk", 8, 1)
    of = table[table.train_key == made["train_key"]]
    assert len(of) == sum(len(row["values"]) for row in made["rows"])
    row = next(row for row in made["rows"] if row["reading"]["k"] == 16 and row["reading"]["select"] == "row")
    (found,) = of[(of.k == 16) & (of["select"] == "row") & (of.column == saes.EV)].to_dict("records")
    assert found["value"] == row["values"][saes.EV] and [found["low"], found["high"]] == row["intervals"][saes.EV]
    assert (found["variant"], found["seed"], found["l0"], found["read_latents"], found["native"]) == ("topk", 1, 16.0, 2048, True)
    assert json.loads(found["config"]) == {"k": 8}
    missing = of[(of.k == 4) & (of.column == "sparse_probing.auc_1")]
    assert missing.value.isna().all() and set(missing.reason) == {"not asked for at this reading"}


def test_json_has_the_same_rows(output: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Of all suites if none is named; those that a page leaves out say so."""
    assert main(["leaderboard", "--format", "json", "--output", str(output)]) == 0
    rows = json.loads(capsys.readouterr().out)
    main(["leaderboard", "--format", "csv", "--output", str(output)])
    flat = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    assert [row["column"] for row in rows] == [row["column"] for row in flat]
    assert [row["value"] for row in rows] == [None if row["value"] == "" else float(row["value"]) for row in flat]
    assert {row["suite"] for row in rows} == {"small", "other"} and {row["control"] for row in rows if row["suite"] == "other"} == {True}
    assert {row["train_key"] for row in rows if row["left_out"]} == {"old"}


def test_nothing_is_written(output: Path) -> None:
    """Data is printed; no page is made."""
    before = sorted(output.rglob("*"))
    main(["leaderboard", "--format", "csv", "--output", str(output)])
    assert sorted(output.rglob("*")) == before


def test_an_unknown_suite_is_named(output: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """With the nearest that is there; no data and no records is an empty list."""
    assert main(["leaderboard", "smal", "--format", "csv", "--output", str(output)]) == 2
    assert "did you mean small?" in capsys.readouterr().err
    assert main(["leaderboard", "--format", "json", "--output", str(output / "nothing")]) == 0
    assert json.loads(capsys.readouterr().out) == []
