"""Runs of two seeds: what is measured together, what of two seeds is compared later, and what one SAE without numbers does to the others."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from sae_bench_htopk import leaderboard, measuring_pass, memory, plan, records, run, seeds, suite, trainer
from sae_bench_htopk.__main__ import main
from sae_bench_htopk.measuring_pass import MeasuringPass
from sae_bench_htopk.records import Record
from tests.test_run import material, refuse_training, values
from tests.test_run import suite as write

__all__ = ["material"]  # a fixture
CHANGES = {
    "seeds": [0, 1], "read": {"k": [4, 8]}, "saes": [{"variant": "topk", "k": 8}, {"variant": "batchtopk", "k": 8}], "controls": ["untrained"],
    "metrics": ["explained_variance", "sparsity"], "train": {"tokens": 4096, "batch": 256, "latents": 64, "dead_after": 1024, "rate": 0.003, "block": 2048},
}  # fmt: skip
SEED_1 = {"metrics": [*CHANGES["metrics"], {"metric": "sparsity_curve", "only": {"seeds": [1]}}]}  # no key of seed 0 changes


@pytest.fixture(scope="module")
def finished(few_draws: None, material: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run."""
    folder = tmp_path_factory.mktemp("two")
    assert main(arguments(material, folder)) == 0
    return folder


@pytest.fixture
def copy(finished: Path, tmp_path: Path) -> Path:
    """A copy that a test may spoil."""
    shutil.copytree(finished, tmp_path / "copy")
    return tmp_path / "copy"


def arguments(material: Path, folder: Path, command: str = "run", **changes: object) -> list[str]:
    """Of the command line; the suite lies beside what it makes."""
    return [command, str(write(material, folder, **CHANGES | changes)), "--output", str(folder), "--device", "cpu"]


def todo(material: Path, folder: Path, **changes: object) -> dict[tuple[str, int], plan.Item]:
    """What is to be done, by variant and seed."""
    chosen = suite.load(str(write(material, folder, **CHANGES | changes)))
    return {(item.training.variant, item.training.seed): item for item in run.Runner(chosen, folder, "cpu").items}


def record(folder: Path, variant: str, seed: int) -> Record:
    """One of them."""
    return next(r for r in records.read_all(folder / "leaderboard" / "small") if (r["sae"]["variant"], r["sae"]["seed"]) == (variant, seed))


def forget(folder: Path, variant: str, seed: int) -> Record:
    """Takes a record away."""
    gone = record(folder, variant, seed)
    (folder / "leaderboard" / "small" / f"{gone['train_key']}.json").unlink()
    return gone


def weights_of(folder: Path, variant: str, seed: int) -> Path:
    """Where they are."""
    return folder / "runs" / "small" / f"{record(folder, variant, seed)['train_key']}.safetensors"


@pytest.fixture
def no_page(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its figures would take most of the time."""
    monkeypatch.setattr(leaderboard, "build", lambda root, name: root / name)


def no_measuring(*_: object) -> None:
    """Stands in for what must not happen."""
    raise AssertionError("measured again")


@pytest.mark.usefixtures("no_page")
def test_seeds_are_measured_together_only_where_they_fit(
    material: Path, copy: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """One pass where memory is there, else seed after seed: with the same rows; plan says which. Nobody is calibrated twice in one pass."""
    wanted, passes, evaluate = values(copy), [], MeasuringPass.evaluate
    pairs = {seed: record(copy, "topk", seed)["stability"] for seed in (0, 1)}
    monkeypatch.setattr(MeasuringPass, "evaluate", lambda self, items, how: (passes.append([item.training.seed for item in items]), evaluate(self, items, how)))
    refuse_training(monkeypatch)
    for free, expected, said in ((2**50, [[0, 0, 1]], "one for all seeds"), (1000, [[0], [0], [1]], "seed after seed"), (None, [[0, 0], [1]], "not known")):
        for gone in (("topk", 0), ("batchtopk", 0), ("topk", 1)):
            forget(copy, *gone)
        monkeypatch.setattr(memory, "free", lambda device, free=free: free)
        assert main(arguments(material, copy, "plan")) == 0
        (line,) = [line for line in capsys.readouterr().out.splitlines() if line.startswith("passes:")]
        assert said in line and "GiB" in line
        passes.clear()
        with monkeypatch.context() as patched:
            if free == 2**50:
                patched.setattr(seeds, "calibrate", no_measuring)
            assert main(arguments(material, copy)) == 0
        assert passes == expected
        found = values(copy)
        assert all(found[key][column] == pytest.approx(value, rel=1e-6) for key, row in wanted.items() for column, value in row.items())
        assert {seed: record(copy, "topk", seed)["stability"] for seed in (0, 1)} == pairs


def test_plan_adds_up_what_is_measured_together(material: Path, copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Weights of both seeds where they are together, of the larger seed where not."""
    before = todo(material, copy)
    chosen = suite.load(str(write(material, copy, **CHANGES)))
    assert plan.passes(chosen, list(before.values()), "cpu") == []
    for gone in (("topk", 0), ("topk", 1)):
        forget(copy, *gone)
    items = list(todo(material, copy).values())
    monkeypatch.setattr(memory, "free", lambda _: 2**50)
    (both,) = plan.passes(chosen, items, "cpu")
    monkeypatch.setattr(memory, "free", lambda _: 0)
    apart = plan.passes(chosen, items, "cpu")
    assert [len(both), *map(len, apart)] == [2, 1, 1]
    held = [memory.measuring(chosen, plan.copies(part)) for part in (both, *apart)]
    assert held[0] - held[1] == 64 * (8 * 32 + 64) and held[1] == held[2]


@pytest.mark.usefixtures("no_page")
def test_a_pair_is_completed_when_its_weights_are_back(material: Path, copy: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """Measured without its twin's weights a record says so, and is done; with them plan asks for the comparison, and run measures nothing for it."""
    weights = weights_of(copy, "topk", 0)
    whole = forget(copy, "topk", 1)
    assert [pair["seed"] for pair in whole["stability"]] == [0] and whole["stability"][0]["live"] > 0
    refuse_training(monkeypatch)
    weights.rename(copy / "elsewhere")
    assert main(arguments(material, copy)) == 0
    (pair,) = record(copy, "topk", 1)["stability"]
    assert pair["missing"] == "the weights of seed 0 were not here" and {item.todo for item in todo(material, copy).values()} == {"done"}
    (copy / "elsewhere").rename(weights)
    items = todo(material, copy)
    assert {key: item.todo for key, item in items.items() if item.todo != "done"} == {("topk", 1): "compare"}
    assert items["topk", 1].why == "every reading is in its record, not yet compared with seed 0"
    rows = record(copy, "topk", 1)["rows"]
    monkeypatch.setattr(measuring_pass, "measure", no_measuring)
    assert main(arguments(material, copy, "plan")) == 0 and " compare " in capsys.readouterr().out
    assert main(arguments(material, copy)) == 0
    assert record(copy, "topk", 1)["stability"] == whole["stability"] and record(copy, "topk", 1)["rows"] == rows
    assert {item.todo for item in todo(material, copy).values()} == {"done"}


@pytest.mark.usefixtures("no_page")
def test_a_damaged_file_of_weights_stops_no_comparison(material: Path, copy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Half a file of the first of two: plan says so and asks for the other alone; found damaged only in the run, the page is still written."""
    whole = {variant: forget(copy, variant, 1)["stability"] for variant in ("topk", "batchtopk")}
    with pytest.MonkeyPatch.context() as patched:
        refuse_training(patched)
        moved = [(path, path.with_suffix(".gone")) for path in (weights_of(copy, variant, 0) for variant in whole)]
        for here, there in moved:
            here.rename(there)
        assert main(arguments(material, copy)) == 0
        for here, there in moved:
            there.rename(here)
        bytes_of = {path: path.read_bytes() for path in (*(here for here, _ in moved), weights_of(copy, "topk", 1))}
        for path in (weights_of(copy, "topk", 0), weights_of(copy, "topk", 1)):
            with patched.context() as unseen:
                unseen.setattr(plan.weights, "whole", lambda _: True)
                path.write_bytes(bytes_of[path][: len(bytes_of[path]) // 2])
                assert {key for key, item in todo(material, copy).items() if item.todo == "compare"} >= {("topk", 1)}
                assert main(arguments(material, copy)) == 0 and "delete it" in capsys.readouterr().err
            (pair,) = record(copy, "topk", 1)["stability"]
            assert pair["missing"] == f"the weights of seed {int(path == weights_of(copy, 'topk', 1))} could not be read"
            assert record(copy, "batchtopk", 1)["stability"] == whole["batchtopk"]
            items = todo(material, copy)
            assert {item.todo for item in items.values()} == {"done"} and " damaged" in items["topk", 1].why
            path.write_bytes(bytes_of[path])
        assert todo(material, copy)["topk", 1].todo == "compare"
        assert main(arguments(material, copy)) == 0
    assert record(copy, "topk", 1)["stability"] == whole["topk"] and {item.todo for item in todo(material, copy).values()} == {"done"}


@pytest.mark.usefixtures("no_page")
def test_every_row_says_which_run_measured_it(material: Path, copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows that are kept keep theirs beside those of a later run; what measured no row any more is forgotten."""
    refuse_training(monkeypatch)
    first = record(copy, "topk", 1)
    assert {when for row in first["rows"] for when in row["measured"].values()} == set(first["measured"])
    monkeypatch.setattr(measuring_pass, "provenance", lambda _: {"commit": "b" * 40, "dirty": True, "when": "2099-01-01T00:00:00+00:00"})
    assert main(arguments(material, copy, read={"k": [2, 4, 8]})) == 0
    second = record(copy, "topk", 1)
    later = {row["reading"]["k"] for row in second["rows"] if set(row["measured"].values()) == {"2099-01-01T00:00:00+00:00"}}
    assert later == {2} and set(second["measured"]) == {*first["measured"], "2099-01-01T00:00:00+00:00"}
    assert second["provenance"] == first["provenance"]
    assert main(arguments(material, copy, read={"k": [2]})) == 0
    assert set(record(copy, "topk", 1)["measured"]) == {"2099-01-01T00:00:00+00:00"}


@pytest.mark.usefixtures("no_page")
def test_a_further_metric_takes_nothing_from_what_is_known_of_the_latents(material: Path, copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the twin's weights or without them: power laws and pairs are those of before, and a further reading leaves them too."""
    before = record(copy, "topk", 1)
    refuse_training(monkeypatch)
    weights = weights_of(copy, "topk", 0)
    weights.rename(copy / "elsewhere")
    assert {key for key, item in todo(material, copy, **SEED_1).items() if item.todo == "evaluate"} == {("topk", 1), ("batchtopk", 1)}
    assert main(arguments(material, copy, **SEED_1)) == 0
    after = record(copy, "topk", 1)
    assert all("sparsity_curve.ev_mean" in row["values"] for row in after["rows"])
    (copy / "elsewhere").rename(weights)
    assert main(arguments(material, copy, **SEED_1, read={"k": [2, 4, 8]})) == 0
    again = record(copy, "topk", 1)
    assert len(again["rows"]) > len(after["rows"])
    assert before["stability"] == after["stability"] == again["stability"] and before["stability"][0]["live"] > 0
    assert before["power_law"] == after["power_law"] == again["power_law"] and set(before["power_law"]) == {"spectrum", "importance", "frequency"}


def test_a_training_that_fails_leaves_empty_cells_and_the_others_as_they_are(
    material: Path, finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its reason stands in its rows, on the page, beside its pair and in the plan, which calls it done; the others have the bits of a run without it."""
    take = trainer.Learner.take

    def failing(learner: trainer.Learner, x: torch.Tensor) -> object:
        if type(learner.variant).__name__ == "BatchTopK" and learner.tokens == 512 and not failed:
            failed.append(learner)
            raise FloatingPointError("loss is nan after 512 tokens")
        return take(learner, x)

    failed: list[trainer.Learner] = []
    monkeypatch.setattr(trainer.Learner, "take", failing)
    assert main(arguments(material, tmp_path)) == 0
    (broken,) = [one for one in records.read_all(tmp_path / "leaderboard" / "small") if one["unusable"]]
    assert (broken["sae"]["variant"], broken["sae"]["seed"]) == ("batchtopk", 0) and broken["unusable"] == "loss is nan after 512 tokens"
    for row in broken["rows"]:
        assert set(row["values"].values()) == {None} and set(row["missing"].values()) == {"loss is nan after 512 tokens"}
    whole, found = values(finished), values(tmp_path)
    assert {key: row for key, row in found.items() if key[0] != broken["train_key"]} == {
        key: row for key, row in whole.items() if key[0] != broken["train_key"]
    }
    assert record(tmp_path, "batchtopk", 1)["stability"] == [{"seed": 0, "train_key": broken["train_key"], "missing": "seed 0: loss is nan after 512 tokens"}]
    assert record(tmp_path, "topk", 1)["stability"] == record(finished, "topk", 1)["stability"]
    page = (tmp_path / "leaderboard" / "small.md").read_text(encoding="utf-8")
    assert "seed 0: loss is nan after 512 tokens" in page.partition("## Do seeds find the same latents?")[2].partition("\n## ")[0]
    assert main(["leaderboard", "--check", "--output", str(tmp_path)]) == 0
    items = todo(material, tmp_path)
    assert {item.todo for item in items.values()} == {"done"}
    assert items["batchtopk", 0].why.endswith("without numbers: loss is nan after 512 tokens; delete record and weights to train it again")
    weights = weights_of(tmp_path, "batchtopk", 0)
    forget(tmp_path, "batchtopk", 0)
    assert todo(material, tmp_path)["batchtopk", 0].todo == "evaluate"
    weights.unlink()
    assert {key: item.todo for key, item in todo(material, tmp_path).items() if item.todo != "done"} == {("batchtopk", 0): "train", ("batchtopk", 1): "compare"}
    monkeypatch.setattr(leaderboard, "build", lambda root, name: root / name)
    assert main(arguments(material, tmp_path)) == 0 and len(failed) == 1
    assert values(tmp_path) == whole and record(tmp_path, "batchtopk", 1)["stability"] == record(finished, "batchtopk", 1)["stability"]


def test_weights_that_are_no_numbers_leave_empty_cells_and_the_others_as_they_are(material: Path, copy: Path) -> None:
    """Also of the seed that its pair belongs to; its twin and all others keep their bits."""
    path = weights_of(copy, "topk", 1)
    with pytest.MonkeyPatch.context() as patched:
        refuse_training(patched)
        with pytest.MonkeyPatch.context() as unseen:
            unseen.setattr(leaderboard, "build", lambda root, name: root / name)
            for gone in (("topk", 0), ("batchtopk", 1)):
                forget(copy, *gone)
            assert main(arguments(material, copy)) == 0
        whole = values(copy)
        with safe_open(path, framework="pt") as file:
            facts = file.metadata()
        tensors = load_file(path)
        tensors["sae.W_dec"][5, 3] = float("nan")
        save_file(tensors, path, metadata=facts)
        for gone in (("topk", 0), ("topk", 1), ("batchtopk", 1)):
            forget(copy, *gone)
        assert main(arguments(material, copy)) == 0
    broken, found = record(copy, "topk", 1), values(copy)
    assert broken["unusable"] == "W_dec hold numbers that are not finite"
    assert {reason for row in broken["rows"] for reason in row["missing"].values()} == {broken["unusable"]}
    (pair,) = broken["stability"]
    assert pair["missing"] == f"seed 1: {broken['unusable']}" and "power_law" not in broken
    assert {key: row for key, row in found.items() if key[0] != broken["train_key"]} == {
        key: row for key, row in whole.items() if key[0] != broken["train_key"]
    }
    assert {item.todo for item in todo(material, copy).values()} == {"done"}
    assert broken["unusable"] in (copy / "leaderboard" / "small.md").read_text(encoding="utf-8") and json.dumps(broken, allow_nan=False)
