"""The SAEs of a seed in one pass over the text or in several: how they are grouped, that it changes no weight, and what is kept when memory runs out."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from sae_bench_htopk import estimate, leaderboard, memory, plan, plugins, records, suite, suite_fields, trainer, training_pass
from sae_bench_htopk.__main__ import main
from sae_bench_htopk.keys import Training
from sae_bench_htopk.lm import SubjectModel
from sae_bench_htopk.plan import Item, Pass
from sae_bench_htopk.trainer import Learner
from tests.test_run import material
from tests.test_run import suite as write

__all__ = ["material"]  # a fixture
CHANGES: dict[str, Any] = {
    "saes": [{"variant": "topk", "k": 8}, {"variant": "batchtopk", "k": 8}, {"variant": "matryoshka", "k": 8, "groups": [0.5, 1.0]}],
    "controls": ["untrained", "random_decoder"], "read": {"k": [8]}, "metrics": ["explained_variance"],
    "train": {"tokens": 4096, "batch": 256, "latents": 64, "dead_after": 1024, "rate": 0.003, "block": 2048},
}  # fmt: skip


def arguments(material: Path, folder: Path, command: str = "run") -> list[str]:
    """Of the command line; the suite lies beside what it makes."""
    return [command, str(write(material, folder, **CHANGES)), "--output", str(folder), "--device", "cpu"]


def made(name: str, latents: int, seed: int = 0) -> Item:
    """Something to train."""
    training = Training(f"{name}{latents}-{seed}", name, plugins.variant(name).Config(k=8), latents, seed, False, suite.load("gemma2_2b").train)
    return Item(training, "train", "", [])


@pytest.fixture
def no_page(few_draws: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its figures would take most of the time."""
    monkeypatch.setattr(leaderboard, "build", lambda root, name: root / name)


def watch(monkeypatch: pytest.MonkeyPatch, see: Callable[[Sequence[Learner]], object]) -> None:
    """Has the learners of every training pass seen before it begins."""

    def train(learners: Sequence[Learner], batches: Iterable[torch.Tensor], taken: int) -> Iterator[int]:
        see(learners)
        return trainer.train(learners, batches, taken=taken)

    monkeypatch.setattr(training_pass, "train", train)


def sizes(groups: list[list[Training]]) -> list[int]:
    """How many are in each."""
    return [len(group) for group in groups]


def test_gemma_in_parts_is_what_fits(monkeypatch: pytest.MonkeyPatch) -> None:
    """Eight of 65,536 latents at d = 2304: 3.4 GiB each, 1.7 GiB and two scores of each vector and latent for a step, and the stream's blocks."""
    chosen = suite.load("gemma2_2b")
    items = [made("topk", 65_536, seed) for seed in range(8)]
    numbers = 2 * 65_536 * 2304
    beside = 6 * numbers + 8 * 8192 * 65_536 + 4 * 2304 * (5 * 65_536 + 2**17)
    for free, wanted in (
        (2 * (beside + 8 * 12 * numbers), [8]),
        (2 * (beside + 5 * 12 * numbers), [5, 3]),
        (2 * (beside + 12 * numbers), [1] * 8),
        (1, [1] * 8),
    ):
        monkeypatch.setattr(memory, "free", lambda _, free=free: free)
        assert sizes(plan.training_passes(chosen, items, "cuda")) == wanted
    assert sizes(plan.training_passes(chosen, [replace(items[0], todo="evaluate")], "cuda")) == []
    monkeypatch.setattr(memory, "free", lambda _: None)
    assert sizes(plan.training_passes(chosen, items, "cuda")) == [8] and sizes(plan.training_passes(chosen, items, "cuda", 3)) == [3, 3, 2]


def test_snapshots_are_of_one_pass_and_the_model_reads_the_text_in_each() -> None:
    """Two snapshots, each of weights and two moments in float32, of the larger pass; operations by hand."""
    chosen = suite.load("gemma2_2b")
    pair, alone = [made("topk", 65_536).training, made("batchtopk", 65_536).training], [made("topk", 32_768).training]
    parts = [Pass([], [pair, alone])]
    numbers = 2 * 65_536 * 2304
    assert estimate.snapshots(chosen, parts) == 2 * 2 * 3 * 4 * numbers and estimate.disk(chosen, [*pair, *alone]) == 4 * 2.5 * numbers
    work, tokens = estimate.work(chosen, parts), 10**9 // 8192 * 8192
    assert work.harvest == tokens * 2 * 13 * 2 * 77_865_984  # two passes, 13 layers, two operations for each weight
    assert work.learn == tokens * (2.5 * 2 * 65_536 * 2304 + 3 * 14 * 8 * 2304) and (work.read, work.model, work.head) == (0, 0, 0)
    assert work.moved == tokens // 8192 * 2.5 * (24 * numbers + 8 * 8192 * 65_536)  # weights and moments, and scores
    assert work.seconds(estimate.Pace(1e15, 1e15, 1e15))[0] == pytest.approx((work.learn + work.harvest) / 1e15)
    assert work.seconds(estimate.Pace(5e14, 25e13, 1e15, 1e12))[0] == pytest.approx((2 * work.learn + 4 * work.harvest + 1000 * work.moved) / 1e15)


def test_a_gpus_snapshots_pass_through_the_host(monkeypatch: pytest.MonkeyPatch) -> None:
    """The largest SAE's weights and moments, beside nothing else while no metric keeps anything; on a CPU they lie there already."""
    chosen, numbers = suite.load("gemma2_2b"), 2 * 65_536 * 2304
    monkeypatch.setattr(memory, "free", lambda _: 2**36)
    large, little = made("topk", 65_536), made("topk", 32_768)
    parts = [Pass([], [[little.training, large.training], [little.training]])]
    peaks = estimate.peaks(chosen, parts, "cuda")
    assert peaks == {"cuda": memory.learning(chosen, parts[0].trainings[0], "cuda"), "cpu": 12 * numbers}
    blocks = 4 * 2304 * 65_536  # one each
    assert estimate.peaks(chosen, parts, "cpu") == {"cpu": peaks["cuda"] - 3 * blocks}
    pinned = replace(chosen, blocks=suite_fields.Blocks(on="pinned"))
    held = 5 * blocks + 4 * 2304 * 2**17
    assert estimate.peaks(pinned, parts, "cuda") == {"cuda": peaks["cuda"] - held, "cpu": 12 * numbers + held}


@pytest.mark.usefixtures("no_page")
def test_weights_do_not_depend_on_how_many_passes_there_are(material: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All at once, two at a time, and one at a time since nothing fits beside another: every tensor has the same bits, and so has every row."""
    passes: list[int] = []
    watch(monkeypatch, lambda learners: passes.append(len(learners)))
    found = {}
    for name, extra, free, wanted in (("one", [], 2**50, [4]), ("two", ["--at-once", "2"], 2**50, [2, 2]), ("all", [], 1, [1, 1, 1, 0, 1])):
        passes.clear()
        monkeypatch.setattr(memory, "free", lambda _, free=free: free)
        assert main([*arguments(material, tmp_path / name), *extra]) == 0 and passes == wanted
        files = sorted((tmp_path / name / "runs" / "small").glob("*.safetensors"))
        rows = [record["rows"] for record in records.read_all(tmp_path / name / "leaderboard" / "small")]
        values = [row["values"] for part in rows for row in part]
        found[name] = {path.name: load_file(path) for path in files}, values
    whole, rows = found["one"]
    assert len(whole) == 5
    for others, other_rows in (found["two"], found["all"]):
        assert other_rows == rows and others.keys() == whole.keys()
        assert all(torch.equal(others[name][key], tensor) for name, tensors in whole.items() for key, tensor in tensors.items())


@pytest.mark.usefixtures("no_page")
def test_a_record_holds_what_was_expected_beside_what_it_took(material: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Seconds and bytes, of the pass that made it; measured again later it keeps what it knew of training."""
    monkeypatch.setattr(estimate, "measured_speed", lambda *_: 1e9)
    assert main(arguments(material, tmp_path)) == 0
    folder = tmp_path / "leaderboard" / "small"
    costs = [record["cost"]["pass"] for record in records.read_all(folder)]
    assert len(costs) == 5 and all(cost == costs[0] for cost in costs) and costs[0]["saes"] == 5
    trained = [record["provenance"]["side_by_side"] for record in records.read_all(folder) if record["sae"]["trained"]]
    assert set(trained) == {len(trained)}  # of one seed, all took turns in one pass
    model, sae = 3 * 24 * 32**2, 2 * 32 * 64 + 14 * 32 * 8
    assert costs[0]["train_seconds"]["predicted"] == pytest.approx(4096 / 1e9 * (4 * sae / estimate.SPARSE_SHARE + model / estimate.MODEL_SHARE))
    assert 0 < costs[0]["train_seconds"]["actual"] < 600 and 0 < costs[0]["evaluate_seconds"]["actual"] < 600
    peak = costs[0]["peak_memory"]
    assert peak["actual"]["host"] > 2**26 and 0.2 < peak["predicted"]["host"] / peak["actual"]["host"] < 5
    (lost,) = [record["train_key"] for record in records.read_all(folder) if record["sae"]["variant"] == "topk"]
    (folder / f"{lost}.json").write_text('{"schema": 1}', encoding="utf-8")
    path = write(material, tmp_path, **CHANGES | {"read": {"k": [4, 8]}})
    assert main(["run", str(path), "--output", str(tmp_path), "--device", "cpu"]) == 0
    again = {record["train_key"]: record for record in records.read_all(folder)}
    assert "train_seconds" not in again.pop(lost)["cost"]["pass"]
    for record in again.values():
        untouched = record["sae"]["variant"] == "random_decoder"  # which is read at its own budget alone
        assert record["cost"]["pass"]["train_seconds"] == costs[0]["train_seconds"]
        assert (record["cost"]["pass"]["evaluate_seconds"] == costs[0]["evaluate_seconds"]) == untouched


def short(step: Callable[..., Any], at: int) -> Callable[..., Any]:
    """The same, but the given call asks the real allocator for far too much."""
    calls = []

    def asking(*given: Any, **named: Any) -> Any:
        calls.append(1)
        if len(calls) == at:
            torch.empty(2**58, dtype=torch.uint8)
        return step(*given, **named)

    return asking


@pytest.mark.usefixtures("no_page")
def test_memory_that_runs_out_in_a_step_keeps_earlier_passes(
    material: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """In the second pass, of the second SAE: named, with what to change and exit code 2; the same command then trains only what is missing."""
    with monkeypatch.context() as patched:
        patched.setattr(plugins.variant("batchtopk"), "step", short(plugins.variant("batchtopk").step, 3))
        assert main([*arguments(material, tmp_path), "--at-once", "1"]) == 2
    last = capsys.readouterr().err.splitlines()[-1]
    assert last.startswith("error: batchtopk (k 8; 64 latents; seed 0): out of memory (") and "train.batch (256 now)" in last and "64 now" in last
    (kept,) = (tmp_path / "runs" / "small").glob("*")
    before, trained = kept.read_bytes(), list[str]()
    watch(monkeypatch, lambda learners: trained.extend(one.label for one in learners))
    assert main(arguments(material, tmp_path)) == 0
    assert kept.read_bytes() == before and sorted(label.split()[0] for label in trained) == ["batchtopk", "matryoshka", "random_decoder"]


@pytest.mark.usefixtures("no_page")
def test_memory_that_runs_out_elsewhere_is_named_too(
    material: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Where the language model reads, where an SAE is made, and where readings are measured, after which weights are kept."""
    for owner, name, at, said in (
        (
            SubjectModel,
            "activations",
            1,
            ("seed 0: reading the text for 5 SAEs: out of memory", "model.context (64 now, 64 windows at once)", "train.block (2,048"),
        ),
        (plugins.variant("matryoshka"), "__init__", 1, ("matryoshka (", "seed 0): out of memory", "fewer latents")),
        (plugins.variant("topk"), "encode", 1, ("measuring 5 SAEs: out of memory", "fewer readings")),
    ):
        with monkeypatch.context() as patched:
            patched.setattr(owner, name, short(getattr(owner, name), at))
            assert main(arguments(material, tmp_path)) == 2
        last = capsys.readouterr().err.splitlines()[-1]
        assert last.startswith("error: ") and all(part in last for part in said), last
        assert len(list((tmp_path / "runs").glob("small/*"))) == (5 if name == "encode" else 0)
