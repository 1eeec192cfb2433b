"""What may go wrong around a run: another run, a full disk, a folder that is read-only, a record edited by hand. Each is one sentence, and nothing is lost."""

import errno
import json
import os
import re
import shutil
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from sae_bench_htopk import leaderboard, lock, records, storage, weights
from sae_bench_htopk.__main__ import main
from tests.test_run import material
from tests.test_run import suite as write

__all__ = ["material"]  # a fixture
CHANGES: dict[str, Any] = {
    "saes": [{"variant": "topk", "k": 8}, {"variant": "batchtopk", "k": 8}], "controls": ["untrained"], "read": {"k": [4, 8]},
    "metrics": ["explained_variance"],
    "train": {"tokens": 4096, "batch": 256, "latents": 64, "dead_after": 1024, "rate": 0.003, "block": 2048},
}  # fmt: skip


@pytest.fixture(scope="module")
def finished(few_draws: None, material: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run."""
    folder = tmp_path_factory.mktemp("sound")
    assert main(arguments(material, folder)) == 0
    return folder


@pytest.fixture
def copy(finished: Path, tmp_path: Path) -> Path:
    """A copy that a test may spoil."""
    shutil.copytree(finished, tmp_path / "copy")
    return tmp_path / "copy"


def arguments(material: Path, folder: Path, command: str = "run") -> list[str]:
    """Of the command line; the suite lies beside what it makes."""
    return [command, str(write(material, folder, **CHANGES)), "--output", str(folder), "--device", "cpu"]


def files(folder: Path) -> dict[str, bytes]:
    """Every file by its place."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def said(capsys: pytest.CaptureFixture[str]) -> str:
    """The one line that says what is wrong, which is the last."""
    lines = capsys.readouterr().err.splitlines()
    assert [line for line in lines if line.startswith("error: ")] == lines[-1:] and not any("Traceback" in line for line in lines)
    return lines[-1]


def full(place: Callable[..., Any], when: Callable[[Path], bool]) -> Callable[..., Any]:
    """The same, but the disk is full for some files, half of which it takes."""

    def refusing(path: Path, *given: Any, **named: Any) -> Any:
        if when(path):
            path.write_bytes(b"half")
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
        return place(path, *given, **named)

    return refusing


def test_a_full_disk_under_weights_keeps_those_that_are_saved(
    material: Path, finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The second file finds it full: the first stays, no half is left, and the same command ends like a run that was never disturbed."""
    saved, save = [], weights.save_file

    def second(tensors: Any, path: Path, **named: Any) -> None:
        saved.append(path)
        (full if len(saved) == 2 else lambda plain, _: plain)(lambda path: save(tensors, path, **named), lambda _: True)(path)

    monkeypatch.setattr(weights, "save_file", second)
    assert main(arguments(material, tmp_path)) == 2
    line = said(capsys)
    assert "No space left on device" in line and ".safetensors: could not be written" in line and "is kept" in line
    assert len([name for name in files(tmp_path) if name.startswith("runs")]) == 1
    assert main(arguments(material, tmp_path)) == 0
    mine, whole = ({name: data for name, data in files(folder).items() if name.startswith("runs")} for folder in (tmp_path, finished))
    assert mine.keys() == whole.keys()
    assert [record["rows"][0]["values"] for record in records.read_all(tmp_path / "leaderboard" / "small")] == [
        record["rows"][0]["values"] for record in records.read_all(finished / "leaderboard" / "small")
    ]


@pytest.mark.parametrize("ending", [".json", ".md", ".svg", ".csv"])
def test_a_full_disk_under_a_record_or_a_page_keeps_the_old_one(
    ending: str, material: Path, copy: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Whole, and nothing half beside it; with room again the same command makes it."""
    next((copy / "leaderboard" / "small").glob("*.json")).unlink()
    before = files(copy)
    with monkeypatch.context() as patched:
        patched.setattr(Path, "write_text", full(Path.write_text, lambda path: path.name.endswith(".tmp") and ending in path.name))
        assert main(arguments(material, copy)) == 2
    assert "No space left on device" in (line := said(capsys)) and f"{ending}: could not be written" in line
    after = files(copy)
    assert {name for name in after if name not in before} <= {name for name in after if name.endswith(".json")}
    gone = before.keys() - after.keys()  # figures that the page of the records that are there has no more
    assert all(name.endswith((".svg", ".csv")) and Path(name).name.encode() not in after["leaderboard/small.md"] for name in gone)
    assert not any(name.endswith((".tmp", ".lock")) or data == b"half" for name, data in after.items())
    assert main(arguments(material, copy)) == 0 and main(["leaderboard", "--check", "--output", str(copy)]) == 0


def test_a_disk_without_room_for_the_weights_is_said_before_training(
    material: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """What they take and what is free; no model is loaded."""
    monkeypatch.setattr(storage.shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(10**9, 10**9, 1000))  # type: ignore[attr-defined]
    monkeypatch.setattr("sae_bench_htopk.run.SubjectModel.load", lambda *_: pytest.fail("loaded the model"))
    assert main(arguments(material, tmp_path)) == 2
    assert "of weights are to be written there" in said(capsys) and [*files(tmp_path)] == ["small.yaml"]


def test_a_folder_that_is_read_only_is_one_sentence(
    material: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Whether the system says it of the lock, or later of a file in a folder beside it."""
    open_it = os.open

    def read_only(path: Any, flags: int, *mode: int, **named: Any) -> int:
        if flags & os.O_CREAT and str(tmp_path) in str(path):
            raise OSError(errno.EROFS, os.strerror(errno.EROFS))
        return open_it(path, flags, *mode, **named)

    run = arguments(material, tmp_path)
    with monkeypatch.context() as patched:
        patched.setattr(lock.os, "open", read_only)
        assert main(run) == 2
    assert "--output: " in (line := said(capsys)) and "cannot be written to (Read-only file system)" in line and [*files(tmp_path)] == ["small.yaml"]
    (tmp_path / "leaderboard").write_text("")  # a file where the folder should be
    assert main(run) == 2
    assert "cannot be written to" in said(capsys) and {*files(tmp_path)} == {"small.yaml", "leaderboard"}


def spoilt(path: Path, change: Callable[[Any], Any]) -> str:
    """A record's text after an edit by hand."""
    return json.dumps(change(json.loads(path.read_text(encoding="utf-8"))))


EDITS: dict[str, Callable[[Path], str]] = {
    "half": lambda path: path.read_text(encoding="utf-8")[:1000],
    "nan": lambda path: spoilt(path, lambda record: record["rows"][0]["values"].update({"explained_variance.ev": float("nan")}) or record),
    "text": lambda path: spoilt(path, lambda record: record["rows"][0]["values"].update({"explained_variance.ev": "0.9"}) or record),
    "list": lambda path: spoilt(path, lambda record: [record]),
    "tokens": lambda path: spoilt(path, lambda record: record["cost"].update(train_tokens="many") or record),
    "runs": lambda path: spoilt(path, lambda record: record | {"measured": [1]}),
    "versions": lambda path: spoilt(path, lambda record: next(iter(record["measured"].values())).update(versions="all") or record),
    "curve": lambda path: spoilt(path, lambda record: record | {"curve": ["steep"]}),
    "point": lambda path: spoilt(path, lambda record: record | {"curve": [{"tokens": "few", "loss": 1.0}]}),
    "interval": lambda path: spoilt(path, lambda record: record["rows"][0]["intervals"].update({"explained_variance.ev": "wide"}) or record),
    "draws": lambda path: spoilt(path, lambda record: record["rows"][0].update(draws=3) or record),
    "pairs": lambda path: spoilt(path, lambda record: record | {"stability": {"seed": 0}}),
    "law": lambda path: spoilt(path, lambda record: record | {"power_law": 1}),
    "rate": lambda path: spoilt(path, lambda record: record["settings"].update(rate="high") or record),
    "reading": lambda path: spoilt(path, lambda record: record["rows"][0]["reading"].update(latents="most") or record),
    "row": lambda path: spoilt(path, lambda record: record | {"rows": [1]}),
    "shells": lambda path: spoilt(path, lambda record: record["sae"].update(shells="two") or record),
}


@pytest.mark.parametrize("edit", EDITS)
def test_a_record_that_was_edited_by_hand_is_named_by_every_command_that_reads_it(
    edit: str, material: Path, copy: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Exit code 2, the file's name in one line, and no file changes."""
    path = next(path for path in (copy / "leaderboard" / "small").glob("*.json") if records.read(path)["curve"])
    path.write_text(EDITS[edit](path), encoding="utf-8")
    before = files(copy)
    for command in (arguments(material, copy), arguments(material, copy, "plan"), ["leaderboard", "--output", str(copy)]):
        assert main(command) == 2
        assert path.name in said(capsys) and files(copy) == before


def test_what_a_metric_kept_for_its_page_is_named_where_the_page_cannot_be_made(copy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Only the metric's own page knows what it wants there; what no record alone does is not put on one."""
    path = next(path for path in (copy / "leaderboard" / "small").glob("*.json") if records.read(path)["curve"])
    change = {"sparsity_curve": {"k": "steep"}}
    path.write_text(spoilt(path, lambda record: [row.update(details=change) for row in record["rows"]] and record), encoding="utf-8")
    before = files(copy)
    assert main(["leaderboard", "--output", str(copy)]) == 2
    assert f"{path.name}: no page can be made of it" in said(capsys) and files(copy) == before
    found = records.read_all(path.parent)
    assert leaderboard.culprit(copy / "leaderboard", "small", found, TypeError("of all of them together")) is None


def too_much(*_: object) -> None:
    """Asks the real allocator for a quarter of an exbibyte."""
    torch.empty(2**58, dtype=torch.uint8)


def test_a_language_model_that_does_not_fit_is_one_sentence(
    material: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Where it moves to its device: who wanted memory, and what takes less of it; nothing is left behind."""
    monkeypatch.setattr(torch.nn.Module, "to", too_much)
    assert main(arguments(material, tmp_path)) == 2
    assert re.search(r"loading the language model .*model: out of memory .*more memory free, model\.dtype bfloat16 \(float32 now\)", said(capsys))
    assert [*files(tmp_path)] == ["small.yaml"]


def test_seeds_that_cannot_be_compared_for_want_of_memory_are_one_sentence(
    material: Path, copy: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Of two records whose latents other code measured; neither changes, and with memory the same command goes on."""
    paths = [path for path in (copy / "leaderboard" / "small").glob("*.json") if records.read(path)["curve"]]
    for path in paths:
        path.write_text(spoilt(path, lambda record: record | {"latents_key": "of other code"}), encoding="utf-8")
    before = {path: records.read(path) for path in paths}
    with monkeypatch.context() as patched:
        patched.setattr("sae_bench_htopk.run.Comparing.compare", too_much)
        assert main(arguments(material, copy)) == 2
    line = said(capsys)
    assert re.search(r"comparing 2 SAEs: out of memory .*fewer latents \(.*; 64 now\), or less calibration text \(text\.calibration\.tokens; 1,000 now\)", line)
    assert {path: records.read(path) for path in paths} == before
    assert main(arguments(material, copy)) == 0 and all(records.read(path)["latents_key"] != "of other code" for path in paths)


def test_a_page_that_cannot_be_written_does_not_hide_why_the_run_ended(
    material: Path, copy: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Memory runs out, and then the disk is read-only where records are put in order: the first is the error, the second a note."""

    def read_only(*_: object) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    next((copy / "leaderboard" / "small").glob("*.json")).unlink()
    monkeypatch.setattr("sae_bench_htopk.run.MeasuringPass.evaluate", too_much)
    monkeypatch.setattr("sae_bench_htopk.run.shelf.tidy", read_only)
    assert main(arguments(material, copy)) == 2
    text = capsys.readouterr().err
    assert "the page was not written: [Errno 30] Read-only file system" in text and "Traceback" not in text
    assert re.search(r"\nerror: measuring \d SAEs: out of memory", text)


def test_a_second_run_in_the_same_folder_is_refused_and_reading_is_not(
    material: Path, copy: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Who holds it is said; plan, list and leaderboard go on; a run in another folder does; afterwards it is free."""
    next((copy / "leaderboard" / "small").glob("*.json")).unlink()
    inside = []

    def again(root: Path, name: str) -> Path:
        if not inside:
            inside.append(1)
            assert main(arguments(material, copy)) == 2
            assert f"another run holds this output folder: process {os.getpid()} on {socket.gethostname()}, since 20" in said(capsys)
            for reading in (arguments(material, copy, "plan"), ["list", "--output", str(copy)], ["leaderboard", "--check", "--output", str(copy)]):
                assert main(reading) in (0, 1) and "holds" not in capsys.readouterr().err
        return root / name

    monkeypatch.setattr(leaderboard, "build", again)
    assert main(arguments(material, copy)) == 0 and inside
    assert main(arguments(material, copy)) == 0 and not [*copy.rglob("run.lock")]


def test_what_a_killed_run_left_is_cleared_away(material: Path, copy: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Its lock with a note, and files that it had not finished."""
    monkeypatch.setattr(leaderboard, "build", lambda root, name: root / name)
    folder = copy / "runs" / "small"
    gone = lock.Holder(2**22 + 1, socket.gethostname(), "2026-11-22T03:00:00+00:00", None, lock.namespace(), lock.boot())
    (folder / "run.lock").write_text(json.dumps(vars(gone)), encoding="utf-8")
    next((copy / "leaderboard" / "small").glob("*.json")).unlink()
    for path in (folder / "0.safetensors", copy / "leaderboard" / "small" / "0.json"):
        path.with_name(storage.UNFINISHED.format(path.name, 7)).write_text("half", encoding="utf-8")
    assert main(arguments(material, copy)) == 0
    assert f"left by {gone}, which is gone; taken over" in capsys.readouterr().err
    assert not any(name.endswith((".tmp", ".lock")) for name in files(copy))
