"""Records survive a round trip, are the same text each time, and refuse what would mislead a reader."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sae_bench_htopk import records, storage
from sae_bench_htopk.contract import Reading

Made = dict[str, Any]


@pytest.fixture
def record() -> Made:
    """A small, whole record."""
    row = {
        "variant": "topk", "config": {"k": 8}, "budget": 8, "keys": {"m": "ab"}, "native": True,
        "reading": {"k": 8, "latents": None, "select": "row", "cut": "before", "rank": "importance"},
        "values": {"explained_variance.ev": 0.1 + 0.2, "downstream_loss.delta": None}, "missing": {"downstream_loss.delta": "not asked for"},
        "intervals": {}, "details": {},
    }  # fmt: skip
    sae = {"variant": "topk", "config": {"k": 8}, "latents": 64, "seed": 0, "control": False, "trained": True}
    parts: Made = {part: {} for part in ("cost", "stream", "text", "model", "settings", "provenance")}
    return {"schema": 2, "suite": "s", "train_key": "0123abcd", "sae": sae, "rows": [row], "curve": [], **parts}


def test_round_trip_keeps_every_bit(tmp_path: Path, record: Made) -> None:
    """What is read is what was written, floats included."""
    path = records.write(tmp_path / "new" / "folder", record)
    assert path.name == "0123abcd.json"
    assert records.read(path) == record
    assert records.read(path)["rows"][0]["values"]["explained_variance.ev"] == 0.1 + 0.2


def test_same_record_same_bytes_and_nothing_else_is_left(tmp_path: Path, record: Made) -> None:
    """The order of keys does not matter, and the temporary file is gone."""
    first = records.write(tmp_path, record).read_bytes()
    second = records.write(tmp_path, dict(reversed(record.items()))).read_bytes()
    assert first == second
    assert [path.name for path in tmp_path.iterdir()] == ["0123abcd.json"]


def test_an_interrupted_write_leaves_the_old_record(tmp_path: Path, record: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C while writing: the old file stays whole, no half of a new one."""
    path = records.write(tmp_path, record)

    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(storage.os, "replace", stop)
    with pytest.raises(KeyboardInterrupt):
        records.write(tmp_path, {**record, "suite": "another"})
    assert [file.name for file in tmp_path.iterdir()] == ["0123abcd.json"]
    assert records.read(path)["suite"] == "s"


def test_read_all_is_by_name(tmp_path: Path, record: Made) -> None:
    """Sorted by file name; a folder that is not there has none."""
    for key in ("bb", "aa"):
        records.write(tmp_path, {**record, "train_key": key})
    assert [one["train_key"] for one in records.read_all(tmp_path)] == ["aa", "bb"]
    assert records.read_all(tmp_path / "nowhere") == []


@pytest.mark.parametrize(("schema", "advice"), [(3, "update sae_bench_htopk"), (1, "run the suite again"), (None, "run the suite again")])
def test_other_schemas_are_refused(tmp_path: Path, record: Made, schema: object, advice: str) -> None:
    """Newer asks for a newer program, older for a new run; the file is named."""
    path = tmp_path / "0123abcd.json"
    path.write_text(json.dumps({**record, "schema": schema}))
    with pytest.raises(records.RecordError, match=rf"0123abcd\.json: schema is {schema}, wanted 2; {advice}"):
        records.read(path)


@pytest.mark.parametrize("text", ['{"schema": 2, "suite"', "", "[]", '{"schema": 2, "suite": NaN}', "\udcff"])
def test_damaged_files_are_named(tmp_path: Path, text: str) -> None:
    """Half a file, no file, another thing, NaN, bytes that are no text."""
    path = tmp_path / "half.json"
    path.write_bytes(text.encode(errors="surrogateescape"))
    with pytest.raises(records.RecordError, match=r"half\.json"):
        records.read(path)


@pytest.mark.parametrize(
    ("place", "value", "said"),
    [
        (("rows", 0, "values", "explained_variance.ev"), float("nan"), r"rows\[0\]\.values\.explained_variance\.ev is nan"),
        (("cost", "seconds"), float("inf"), r"cost\.seconds is inf"),
        (("rows", 0, "missing"), {}, r"rows\[0\]: downstream_loss\.delta is null, wanted its reason"),
        (("rows", 0, "values", "explained_variance.ev"), "high", r"explained_variance\.ev is 'high', wanted a number"),
        (("rows", 0, "reading"), {"k": 8}, r"rows\[0\]\.reading: has no 'latents'"),
        (("rows", 0, "reading"), {"k": 8, "latents": None, "cut": "before", "rank": "importance"}, r"rows\[0\]\.reading: has no 'select'"),
        (("rows", 0, "reading", "codes"), 8, r"rows\[0\]\.reading: has 'codes', wanted only 'k', 'latents', 'select', 'cut', 'rank'"),
        (("rows", 0, "reading", "latents"), True, r"rows\[0\]\.reading: latents is True, wanted a whole number of at least 1"),
        (("sae", "seed"), "0", r"sae: seed is '0', wanted int"),
        (("train_key",), "../evil", r"train_key is '\.\./evil'"),
        (("curve",), None, r"curve is None, wanted list"),
    ],
)
def test_nothing_invalid_is_written(tmp_path: Path, record: Made, place: tuple[Any, ...], value: object, said: str) -> None:
    """Each fault is named by its place, and the folder stays empty."""
    part: Any = record
    for step in place[:-1]:
        part = part[step]
    part[place[-1]] = value
    with pytest.raises(records.RecordError, match=said):
        records.write(tmp_path, record)
    assert list(tmp_path.iterdir()) == []


def test_a_file_under_another_name_is_refused(tmp_path: Path, record: Made) -> None:
    """A copy under a second name would count twice."""
    copy = records.write(tmp_path, record).rename(tmp_path / "copy.json")
    with pytest.raises(records.RecordError, match=r"copy\.json: holds the record of train_key 0123abcd"):
        records.read(copy)


def test_a_readings_keys_are_those_of_a_reading(record: Made) -> None:
    """A page makes one of them: whole dictionary or not, no more and no less than its fields."""
    for latents in (None, 32):
        record["rows"][0]["reading"]["latents"] = latents
        records.validate(record, "here")
        assert Reading(**record["rows"][0]["reading"]) == Reading(8, latents)


@pytest.mark.parametrize("number", [float("nan"), np.float64("inf")])
def test_no_number_is_found_however_deep_it_lies(number: float, tmp_path: Path, record: Made) -> None:
    """Also one of NumPy's, in a record of a kind of its own; the place is named, and nothing is written."""
    record["rows"][0]["details"] = {"x": {"y": [1.0, number]}}
    with pytest.raises(records.RecordError, match=r"rows\[0\]\.details\.x\.y\[1\] is"):
        records.write(tmp_path, records.OnDisk(record))
    assert not list(tmp_path.iterdir())
