"""A run that is killed at any point and run again: the same weights and records, bit for bit, as one that was never interrupted."""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open

from sae_bench_htopk import leaderboard, lm, records, resume, snapshot, trainer, training_pass, weights
from sae_bench_htopk.__main__ import main
from sae_bench_htopk.measuring_pass import MeasuringPass
from sae_bench_htopk.provenance import provenance
from tests.test_run import ROOT, material
from tests.test_run import suite as write

__all__ = ["material"]  # the fixture

SAES = [*({"variant": name, "k": 4} for name in ("topk", "batchtopk", "hierarchical_topk", "matryoshka")), {"variant": "relu", "l1": 0.1}]
STEPS, TO_A_BLOCK, TRAINED = 32, 15, 6  # 8,192 tokens in batches of 256; blocks of 64 windows of at most 63; five variants and a control that is trained
EVERY_STEP = {"minutes": 1e-9}


class Killed(BaseException):
    """Stands in for SIGKILL: nothing in the core may catch it and tidy up."""


def arguments(material: Path, folder: Path, saes: object = SAES, **changes: object) -> list[str]:
    """The command line of a small suite that saves a snapshot after every step."""
    metrics = ["explained_variance", "sparsity"]
    changes = {"saes": saes, "controls": ["pca", "random_decoder"], "metrics": metrics, "read": {"k": [4]}, "snapshot": EVERY_STEP} | changes
    return ["run", str(write(material, folder, **changes)), "--device", "cpu", "--output", str(folder)]


@pytest.fixture(scope="module", autouse=True)
def undrawn(few_draws: None) -> Iterator[None]:
    """Pages are made of records alone, which are compared; drawing them would take most of the time."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(leaderboard, "build", lambda root, name: root / f"{name}.md")
        yield


@pytest.fixture(scope="module")
def whole(material: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that nothing interrupted, and that saved no snapshot."""
    folder = tmp_path_factory.mktemp("whole")
    assert main(arguments(material, folder, snapshot={"minutes": 1e9})) == 0
    return folder


def result(folder: Path) -> dict[str, Any]:
    """All weights and records of a run, without what says when and how fast it was made."""
    found: dict[str, Any] = {}
    for path in (folder / "runs" / "small").glob("*.safetensors"):
        with safe_open(path, framework="pt") as file:
            facts = json.loads(file.metadata()["facts"])
            found[path.name] = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        facts["training"] = {name: value for name, value in facts["training"].items() if name not in ("seconds", "provenance")} | {
            "selection": facts["training"]["provenance"]["selection"]
        }
        found[f"{path.name}: facts"] = facts
    for path in (folder / "leaderboard" / "small").glob("*.json"):
        record = json.loads(path.read_text(encoding="utf-8"))
        rows = [{name: value for name, value in row.items() if name != "measured"} for row in record.pop("rows")]
        timed = {"cost", "provenance", "measured"}
        found[path.name] = {name: value for name, value in record.items() if name not in timed} | {"tokens": record["cost"]["train_tokens"], "rows": rows}
    return found


def same(found: dict[str, Any], wanted: dict[str, Any]) -> None:
    """Asserts that two runs came to the same, every bit of every weight."""
    assert set(found) == set(wanted)
    for name, value in wanted.items():
        if name.endswith(".safetensors"):
            assert all(torch.equal(found[name][tensor], kept) for tensor, kept in value.items()) and set(found[name]) == set(value), name
        else:
            assert found[name] == value, name


def at_call(number: int, function: Callable[..., Any], first: Callable[..., None] = lambda *_, **__: None) -> Callable[..., Any]:
    """The function, until its call of that number: then `first` is called with its arguments, and the run is killed."""
    calls = {"made": 0}

    def counted(*given: Any, **named: Any) -> Any:
        calls["made"] += 1
        if calls["made"] == number:
            first(*given, **named)
            raise Killed
        return function(*given, **named)

    return counted


def half(tensors: dict[str, torch.Tensor], path: Path, **_: Any) -> None:
    """Writes a file of tensors, and cuts it in the middle."""
    snapshot.save_file(tensors, path)
    os.truncate(path, path.stat().st_size // 2)


def behead(folder: Path, **_: Any) -> None:
    """Deletes of a snapshot only what says what it is."""
    (folder / snapshot.MANIFEST).unlink()


SAVE_FILE, RENAME, TAKE, SAVE = snapshot.save_file, os.rename, trainer.Learner.take, weights.save
EVALUATE, REMOVE, RMTREE, WRITE = MeasuringPass.evaluate, resume.Snapshots.remove, shutil.rmtree, records.write
POINTS: dict[str, tuple[object, str, Callable[[], Callable[..., Any]], int]] = {  # what is replaced, by what, and the step that a second run goes on from
    "before the first snapshot": (trainer.Learner, "take", lambda: at_call(TRAINED - 1, TAKE), 0),
    "in the first part of the first snapshot": (snapshot, "save_file", lambda: at_call(1, SAVE_FILE, half), 0),
    "in the middle of the third snapshot": (snapshot, "save_file", lambda: at_call(2 * (TRAINED + 1) + 4, SAVE_FILE, half), 2),
    "before a snapshot is put in its place": (os, "rename", lambda: at_call(5, RENAME), 4),
    "after a snapshot is put in its place": (os, "rename", lambda: at_call(5, RENAME, RENAME), 5),
    "in the middle of a step and of a block": (trainer.Learner, "take", lambda: at_call((TO_A_BLOCK + 3) * TRAINED + 4, TAKE), TO_A_BLOCK + 3),
    "where a block ends": (os, "rename", lambda: at_call(TO_A_BLOCK, RENAME, RENAME), TO_A_BLOCK),
    "before the last step": (os, "rename", lambda: at_call(STEPS - 1, RENAME, RENAME), STEPS - 1),
    "while weights are saved": (weights, "save", lambda: at_call(3, SAVE), STEPS - 1),
    "before snapshots are deleted": (resume.Snapshots, "remove", lambda: at_call(STEPS, REMOVE), STEPS),
    "while the snapshot before the last is deleted": (shutil, "rmtree", lambda: at_call(7, RMTREE, behead), 3),
    "after training": (MeasuringPass, "evaluate", lambda: at_call(1, EVALUATE), STEPS),
    "after the second record": (records, "write", lambda: at_call(2, WRITE, WRITE), STEPS),
}  # fmt: skip


@pytest.fixture
def steps(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """Where each pass that was begun went on from."""
    found: list[int] = []
    train = training_pass.train

    def noted(*given: Any, taken: int = 0) -> Iterator[int]:
        found.append(taken)
        return train(*given, taken=taken)

    monkeypatch.setattr(training_pass, "train", noted)
    yield found


@pytest.mark.parametrize("point", POINTS)
def test_killed_and_run_again_it_comes_to_the_same(point: str, whole: Path, material: Path, tmp_path: Path, steps: list[int]) -> None:
    """It goes on from the last whole snapshot, and nothing of the snapshots is left in the end."""
    place, name, killing, step = POINTS[point]
    command = arguments(material, tmp_path)
    with pytest.MonkeyPatch.context() as patch, pytest.raises(Killed):
        patch.setattr(place, name, killing())
        main(command)
    steps.clear()
    assert main(command) == 0
    assert steps == ([] if step == STEPS else [step])
    same(result(tmp_path), result(whole))
    assert not (tmp_path / "runs" / "small" / "snapshots").exists()


def test_killed_again_and_again_it_comes_to_the_same(whole: Path, material: Path, tmp_path: Path) -> None:
    """Each run is killed a few steps on, also in the block that it went on in, and in a snapshot that it was writing."""
    command = arguments(material, tmp_path)
    for count in (3 * TRAINED, 2 * TRAINED + 1, 9 * TRAINED, TRAINED + 2):
        with pytest.MonkeyPatch.context() as patch, pytest.raises(Killed):
            patch.setattr(trainer.Learner, "take", at_call(count, TAKE))
            main(command)
        with pytest.MonkeyPatch.context() as patch, pytest.raises(Killed):
            patch.setattr(snapshot, "save_file", at_call(TRAINED, SAVE_FILE, half))
            main(command)
    assert main(command) == 0
    same(result(tmp_path), result(whole))


def test_snapshots_are_two_at_most_and_one_that_is_begun_leaves_one(material: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Counted whenever one is put in its place, and whenever a file of one is written; blocks end where these tests say."""
    folder, begun, ended, places = tmp_path / "runs" / "small" / "snapshots", list[int](), list[int](), list[tuple[int, int]]()

    def there() -> int:
        return len([path for path in folder.iterdir() if path.suffix != ".tmp"])

    def save_file(*given: Any) -> None:
        begun.append(there())
        SAVE_FILE(*given)

    def rename(*given: Any) -> None:
        RENAME(*given)
        ended.append(there())
        place = snapshot.read(Path(given[1])).parts["stream"]["place"]
        places.append((place["block"], place["taken"]))

    monkeypatch.setattr(snapshot, "save_file", save_file)
    monkeypatch.setattr(os, "rename", rename)
    assert main(arguments(material, tmp_path, SAES[:1], controls=["pca"])) == 0
    assert set(begun) == {0, 1} and begun.count(0) == 2 and ended == [1] + [2] * (STEPS - 2)
    assert places[TO_A_BLOCK - 1 : TO_A_BLOCK + 1] == [(0, TO_A_BLOCK), (1, 1)] and places[-1] == (2, 1)


def killed(material: Path, folder: Path, saes: object = SAES[:2]) -> tuple[list[str], list[Path]]:
    """A run that was killed with two whole snapshots there: its command line, and these, the newest first."""
    command = arguments(material, folder, saes, controls=["pca"])
    with pytest.MonkeyPatch.context() as patch, pytest.raises(Killed):
        patch.setattr(os, "rename", at_call(11, RENAME, RENAME))
        main(command)
    found = sorted((folder / "runs" / "small" / "snapshots").iterdir(), reverse=True)
    assert [int(path.name.split("-")[0]) for path in found] == [11, 10]
    return command, found


@pytest.fixture(scope="module")
def two(whole: Path) -> dict[str, Any]:
    """What the whole run came to, of the first two SAEs and the control that is not trained."""
    found = result(whole)
    kept = [name[:16] for name, value in found.items() if name.endswith(".json") and value["sae"]["variant"] in ("topk", "batchtopk", "pca")]
    return {name: value for name, value in found.items() if name[:16] in kept}


def flip(path: Path) -> None:
    """Changes one bit in the middle of a file."""
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def cut_short(path: Path) -> None:
    """Leaves half of a file."""
    os.truncate(path, path.stat().st_size // 2)


@pytest.mark.parametrize("spoil", [flip, cut_short, Path.unlink])
def test_a_damaged_snapshot_is_named_and_the_one_before_is_used(
    spoil: Callable[[Path], None], two: dict[str, Any], material: Path, tmp_path: Path, steps: list[int], capsys: pytest.CaptureFixture[str]
) -> None:
    """Whichever of its files it is; where both are damaged, training starts anew and says so."""
    command, (newest, before) = killed(material, tmp_path)
    facts = json.loads((before / "snapshot.json").read_text(encoding="utf-8"))["facts"]
    for path in sorted(newest.iterdir()):
        kept = path.read_bytes()
        spoil(path)
        found = resume.find(newest.parent, keys := facts["keys"], facts["made"]["model"])
        assert found is not None and found.folder == before and str(path) in capsys.readouterr().err
        path.write_bytes(kept)
    found = resume.find(newest.parent, keys, facts["made"]["model"])
    assert found is not None and found.folder == newest and not capsys.readouterr().err
    spoil(newest / "stream.safetensors")
    if spoil is flip:
        spoil(before / "snapshot.json")
    steps.clear()
    assert main(command) == 0
    said = capsys.readouterr().err
    assert steps == [0 if spoil is flip else 10] and ("training starts anew" in said) == (spoil is flip)
    assert str(newest / "stream.safetensors") in said and (spoil is not flip or str(before / "snapshot.json") in said)
    assert {name for name in result(tmp_path) if name.endswith(".json")} == {name for name in two if name.endswith(".json")}
    for name, value in two.items():
        if name.endswith(".safetensors"):
            assert all(torch.equal(result(tmp_path)[name][tensor], kept) for tensor, kept in value.items())


def test_a_snapshot_of_other_settings_is_not_gone_on_from(material: Path, tmp_path: Path, steps: list[int], capsys: pytest.CaptureFixture[str]) -> None:
    """Another rate is other trainings; what is left of the first is named, and left."""
    _, found = killed(material, tmp_path)
    steps.clear()
    train = {"tokens": 8192, "batch": 256, "latents": 64, "dead_after": 1024, "rate": 0.002, "block": 2048}
    assert main(arguments(material, tmp_path, SAES[:2], controls=["pca"], train=train)) == 0
    said = capsys.readouterr().err
    assert steps == [0] and all(f"{path} holds the training of nothing" in said and path.is_dir() for path in found)


def test_an_sae_that_is_added_is_trained_beside_what_a_snapshot_holds(
    two: dict[str, Any], whole: Path, material: Path, tmp_path: Path, steps: list[int]
) -> None:
    """What was begun goes on, and what is new has a pass of its own; one that is taken away is not waited for."""
    killed(material, tmp_path / "more")
    steps.clear()
    assert main(arguments(material, tmp_path / "more", controls=["pca", "random_decoder"])) == 0
    assert steps == [11, 0]
    found, wanted = result(tmp_path / "more"), result(whole)
    assert all(torch.equal(found[name][tensor], kept) for name in wanted if name.endswith(".safetensors") for tensor, kept in wanted[name].items())
    killed(material, tmp_path / "less")
    steps.clear()
    assert main(arguments(material, tmp_path / "less", SAES[:1], controls=["pca"])) == 0
    assert steps == [11] and not (tmp_path / "less" / "runs" / "small" / "snapshots").exists()
    found = result(tmp_path / "less")
    assert all(torch.equal(found[name][tensor], kept) for name in two if name in found and name.endswith(".safetensors") for tensor, kept in two[name].items())


@pytest.mark.parametrize("at_once", ["1", "2"])
def test_fewer_at_once_after_a_kill_go_on_each_from_where_all_were(at_once: str, two: dict[str, Any], material: Path, tmp_path: Path, steps: list[int]) -> None:
    """What one pass does not train any more stays in the snapshot for the next; in the end no snapshot is left."""
    command, _ = killed(material, tmp_path)
    steps.clear()
    assert main([*command, "--at-once", at_once]) == 0
    assert steps[: 3 - int(at_once)] == [11] * (3 - int(at_once))
    found = result(tmp_path)
    assert all(torch.equal(found[name][tensor], kept) for name in two if name.endswith(".safetensors") for tensor, kept in two[name].items())
    assert not (tmp_path / "runs" / "small" / "snapshots").exists()


def test_a_snapshot_leaves_room_for_the_weights(
    two: dict[str, Any], material: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Where a disk has room for weights and a snapshot, one is kept; a byte less, and none is, which is said; training goes on."""
    usage, sizes, free = shutil.disk_usage, list[int](), [2**40]
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(path)._replace(free=free[0]))
    monkeypatch.setattr(os, "rename", lambda one, other: (RENAME(one, other), sizes.append(sum(file.stat().st_size for file in Path(other).iterdir()))))
    assert main(arguments(material, tmp_path / "roomy", SAES[:2], controls=["pca"])) == 0 and len(sizes) == STEPS - 1
    weights = sum(path.stat().st_size for path in (tmp_path / "roomy" / "runs" / "small").glob("*.safetensors"))
    sizes.clear()
    capsys.readouterr()
    free[0] = weights  # nowhere near both
    assert main(arguments(material, tmp_path / "full", SAES[:2], controls=["pca"])) == 0 and not sizes
    assert "no snapshot is kept" in capsys.readouterr().err
    found = result(tmp_path / "full")
    assert all(torch.equal(found[name][tensor], kept) for name in two if name.endswith(".safetensors") for tensor, kept in two[name].items())


def test_a_model_whose_weights_have_moved_is_not_gone_on_with(
    material: Path, tmp_path: Path, steps: list[int], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A snapshot names the weights that gave its activations; other threads are said, and stand in the record."""
    command, found = killed(material, tmp_path)
    steps.clear()
    manifest = json.loads((found[0] / "snapshot.json").read_text(encoding="utf-8"))
    assert manifest["facts"]["made"]["threads"] == torch.get_num_threads()
    monkeypatch.setattr(training_pass, "provenance", lambda device: provenance(device) | {"threads": 77})
    assert main(command) == 0
    assert steps == [11] and f"threads {torch.get_num_threads()} before, 77 now" in capsys.readouterr().err
    stories = [record["provenance"].get("resumed") for record in records.read_all(tmp_path / "leaderboard" / "small") if record["sae"]["trained"]]
    assert [[(run["step"], run["threads"]) for run in runs] for runs in stories] == [[(11, torch.get_num_threads())]] * 2
    assert all("train_seconds" not in record["cost"]["pass"] for record in records.read_all(tmp_path / "leaderboard" / "small"))
    killed(material, tmp_path / "moved")
    monkeypatch.setattr(lm, "fingerprint", lambda _: "of other weights")
    steps.clear()
    assert main(arguments(material, tmp_path / "moved", SAES[:2], controls=["pca"])) == 0
    assert steps == [0] and "is of a language model with other weights" in capsys.readouterr().err


def test_a_disk_that_is_full_stops_no_training(
    two: dict[str, Any], material: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Every snapshot fails in its second file; it says so, leaves nothing behind, and the weights are what they would be."""

    def full(tensors: dict[str, torch.Tensor], path: Path) -> None:
        if path.name != "stream.safetensors":
            raise OSError(28, "No space left on device")
        SAVE_FILE(tensors, path)

    monkeypatch.setattr(snapshot, "save_file", full)
    assert main(arguments(material, tmp_path, SAES[:2], controls=["pca"])) == 0
    assert "No space left on device" in capsys.readouterr().err and not (tmp_path / "runs" / "small" / "snapshots").exists()
    found = result(tmp_path)
    assert all(torch.equal(found[name][tensor], kept) for name in two if name.endswith(".safetensors") for tensor, kept in two[name].items())


@pytest.mark.slow
def test_sigkill_at_random_moments_changes_nothing(material: Path, tmp_path: Path) -> None:
    """A process of its own, killed until it has ended once, against one that never was; the moments are drawn anew for each run, and printed."""
    command = [sys.executable, "-m", "sae_bench_htopk", *arguments(material, tmp_path)]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    clock = time.monotonic()
    assert subprocess.run([*command[:-1], str(tmp_path / "timed")], env=environment, capture_output=True).returncode == 0
    longest, draw, kills = time.monotonic() - clock, random.Random(), 0
    while True:
        process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        after = draw.uniform(0.3, 1.05 if kills else 0.9) * longest
        try:
            assert process.wait(after) == 0
            break
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL)
            process.wait()
            kills += 1
            print(f"killed after {after:.2f} s of about {longest:.2f} s")
    assert kills
    same(result(tmp_path), result(tmp_path / "timed"))
