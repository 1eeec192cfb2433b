"""The suite's SAEs trained anew on fewer tokens: the bits of a suite of their own, records beside the others, and what the page says of both."""

import re
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from sae_bench_htopk import leaderboard, plan, records, shorter
from sae_bench_htopk.__main__ import main
from sae_bench_htopk.board import assemble
from sae_bench_htopk.page import page
from sae_bench_htopk.plan import Item, schedule
from sae_bench_htopk.run import Runner
from sae_bench_htopk.saes import EV
from sae_bench_htopk.strict_yaml import SuiteError
from sae_bench_htopk.suite import load
from tests.test_contrasts import declaring, pair
from tests.test_leaderboard import Made, make
from tests.test_leads import record
from tests.test_run import material, refuse_training
from tests.test_run import suite as write

__all__ = ["material"]  # a fixture
BATCH, TOKENS, FEWER = 256, 6144, 4096
METRICS = ["explained_variance", "sparsity"]
LESS: dict[str, Any] = {"tokens": FEWER, "seeds": [0], "metrics": [{"metric": name, "only": {"select": ["native"]}} for name in METRICS]}
CHANGES: dict[str, Any] = {
    "saes": [{"variant": "topk", "k": 8}, {"variant": "batchtopk", "k": 8, "rate": 0.002}], "controls": ["pca"], "read": {"k": [4, 8]},
    "metrics": METRICS, "seeds": [0, 1], "shorter": LESS,
    "train": {"tokens": TOKENS, "batch": BATCH, "latents": 64, "dead_after": 1024, "rate": 0.003, "block": 2048},
}  # fmt: skip


def arguments(material: Path, folder: Path, **changes: Any) -> list[str]:
    """Of the command line; the suite lies beside what it makes."""
    told = {name: value for name, value in (CHANGES | changes).items() if value is not None}
    return ["run", str(write(material, folder, **told)), "--output", str(folder), "--device", "cpu"]


def items(material: Path, folder: Path, **changes: Any) -> list[Item]:
    """What there is to do."""
    return Runner(load(arguments(material, folder, **changes)[1]), folder, "cpu").items


@pytest.fixture(scope="module")
def done(few_draws: None, material: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The whole suite with its page."""
    folder = tmp_path_factory.mktemp("done")
    assert main(arguments(material, folder)) == 0
    return folder


def test_a_shorter_training_is_that_of_a_suite_with_so_many_tokens(done: Path, material: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keys and bits; and the longer ones are as if there were no shorter ones."""
    monkeypatch.setattr(leaderboard, "build", lambda root, name: root / f"{name}.md")
    alone = CHANGES["train"] | {"tokens": FEWER}
    assert main(arguments(material, tmp_path, shorter=None, seeds=[0], train=alone)) == 0
    own = [item for item in items(material, tmp_path, shorter=None, seeds=[0], train=alone) if not item.training.control]
    found = {item.training.key: item for item in items(material, done)}
    assert {item.training.key for item in own} == {key for key, item in found.items() if item.training.shorter} and len(own) == 2
    for item in own:
        one, other = (load_file(plan.weights_path(folder, "small", item.training.key)) for folder in (done, tmp_path))
        assert one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)
    keys = {item.training.key for item in items(material, done, shorter=None)}
    assert keys == {key for key, item in found.items() if not item.training.shorter}


def test_each_has_a_record_of_what_is_asked_of_it_and_nothing_is_done_twice(done: Path, material: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of one seed, by its native selector alone; tokens and operations are its own."""
    found = records.read_all(done / "leaderboard" / "small")
    fewer = [record for record in found if record["settings"]["tokens"] == FEWER]
    assert sorted((record["sae"]["variant"], record["sae"]["seed"]) for record in fewer) == [("batchtopk", 0), ("topk", 0)]
    assert all(record["cost"]["train_tokens"] == FEWER and all(row["native"] for row in record["rows"]) for record in fewer)
    assert {item.todo for item in items(material, done)} == {"done"}
    refuse_training(monkeypatch)
    assert main(arguments(material, done)) == 0


def test_lengths_are_trained_and_measured_in_passes_of_their_own(material: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Also by a plan, which names the tokens."""
    runner = Runner(load(arguments(material, tmp_path)[1]), tmp_path, "cpu")
    for part in schedule(runner.suite, runner.items, "cpu"):
        assert len({item.training.shorter for item in part.items}) == 1
        assert all(len({training.recipe.tokens for training in group}) == 1 for group in part.trainings)
    assert sum(f"{FEWER:,} tokens" in item.training.label() for item in runner.items) == 2
    assert main(["plan", *arguments(material, tmp_path)[1:]]) == 0
    said = capsys.readouterr().out
    assert "shorter trainings have passes of their own" in said and "more than one for a seed" not in said


def test_the_page_keeps_them_apart_and_says_what_more_text_changes(done: Path) -> None:
    """Every section but one and the last is that of the longer trainings alone; the change is that of the seed that both have."""
    found = records.read_all(done / "leaderboard" / "small")
    board, without = assemble(found), assemble([record for record in found if record["settings"]["tokens"] == TOKENS])
    text = page(board, {})
    apart = text[text.index("## On fewer tokens") : text.index("\n## ", text.index("## On fewer tokens")) + 1]
    end = "## Where the numbers come from"
    assert text.replace(apart, "").partition(end)[0] == page(without, {}).partition(end)[0]
    assert f"({TOKENS:,} instead of {FEWER:,})" in apart and "A checkpoint" not in apart
    (row,) = [line for line in apart.splitlines() if line.startswith("| topk")]
    value = {
        record["settings"]["tokens"]: next(row["values"][EV] for row in record["rows"] if row["native"] and row["reading"]["k"] == 8)
        for record in found
        if (record["sae"]["variant"], record["sae"]["seed"]) == ("topk", 0)
    }
    cells = row.strip("| ").split(" | ")
    assert [float(cell) for cell in cells[3:5]] == pytest.approx([value[FEWER], value[TOKENS]], abs=0.006) and cells[1:3] == ["8", "0"]
    assert float(cells[5].rstrip("%")) == pytest.approx(100 * ((1 - value[TOKENS]) / (1 - value[FEWER]) - 1), abs=0.06)


def of(tokens: int, ev: float, seed: int = 0) -> Made:
    """A record of TopK read at 32, after a training of so many tokens."""
    made = make("topk", 32, seed)
    for row in made["rows"]:
        row["values"] |= {EV: ev, "sparsity.l0": float(row["reading"]["k"])}
    return {**made, "settings": {"tokens": tokens}, "train_key": f"{made['train_key'][:8]}{tokens:08d}"}


def test_little_and_much_change_are_told_apart() -> None:
    """1.9% of what is unexplained is little, 2.1% is not; of three seeds of one and two of the other the two count."""
    for after, little in ((0.5095, True), (0.5105, False), (0.4905, True), (0.4895, False)):
        board = assemble([of(100, 0.5), of(200, after), of(100, 0.5, 1), of(200, after, 1), of(200, 0.99, 2)])
        said = "\n".join(shorter.section(board))
        assert board.tokens == 200 and ("less than 2% for each of these 1 SAEs" in said) == little and ("**nothing on this page" in said) != little
        assert f"{100 * (0.5 - after) / 0.5:+.1f}%" in said and "2 times the tokens" in said


def test_an_sae_that_does_not_reach_the_k_nearest_to_its_own_is_compared_at_the_next() -> None:
    """Its L0 at k = 32 is 27 after the longer training, so that both have a number at 16 alone."""
    longer = of(200, 0.6)
    for row in (row for row in longer["rows"] if row["reading"]["k"] == 32):
        row["values"] |= {EV: 0.9, "sparsity.l0": 27.0}
    board = assemble([of(100, 0.5), longer])
    (change,) = shorter.changes(board, board.earlier[0])
    assert change.k == 16 and change.relative() == pytest.approx(-0.2)


def test_each_sae_is_compared_on_the_seeds_that_it_has_in_both() -> None:
    """A shorter run half done: seed 1 of one SAE is far from its seed 0, and not there yet."""
    made = [of(100, 0.5), of(200, 0.5), of(200, 0.9, 1)]
    other = [{**make("batchtopk", 32, seed), "settings": {"tokens": tokens}, "train_key": f"b{seed}t{tokens}"} for seed in (0, 1) for tokens in (100, 200)]
    board = assemble([*made, *other])
    (change,) = [change for change in shorter.changes(board, board.earlier[0]) if change.sae.variant == "topk"]
    assert change.relative() == 0 and list(change.sae.rows) == [0]
    assert "each trained with 2 seeds" in page(board, {}) and "(L0" not in shorter.table(board, board.earlier[0], [change])


def test_primary_contrasts_that_turn_are_named_with_both_outcomes() -> None:
    """One whose sides change places, one that is lost in noise, one that stays; over the three seeds of both, whatever the others say."""
    values = {"topk": (0.50, 0.60), "batchtopk": (0.55, 0.55), "matryoshka": (0.40, 0.5501), "hierarchical_topk": (0.20, 0.20)}
    made = []
    for tokens, place in ((100, 0), (200, 1)):
        for seed, off in enumerate((-0.002, 0.0, 0.002, 0.9, 0.9)[: 3 + 2 * place]):
            for number, (name, ev) in enumerate(values.items()):
                value = ev[place] + off * (1 + number / 10)
                one = record(name, seed, {8: value}, {8: [value] * 100})
                made.append({**one, "settings": {"tokens": tokens}, "train_key": f"{one['train_key'][:8]}{tokens:08d}"})
    declared = [pair("topk", "batchtopk"), pair("matryoshka", "batchtopk"), pair("topk", "hierarchical_topk")]
    (said,) = [part for part in shorter.section(assemble(declaring(made, *declared))) if part.startswith("Over the seeds")]
    assert "2 of the 3 primary contrasts that could be tested on both come out otherwise" in said
    p = r"p (<0\.0001|= 0\.0\d+)"
    assert re.search(rf"topk k=8 against batchtopk k=8 in EV at k = 8 \(behind by 0\.050\d?, {p}, on fewer tokens; ahead by 0\.050\d?, {p}, on all\)", said)
    assert re.search(
        rf"matryoshka k=8 against batchtopk k=8 in EV at k = 8 \(behind by 0\.150\d?, {p}, on fewer tokens; ahead by 0\.000, p = 0\.9\d, on all", said
    )
    (same,) = [part for part in shorter.section(assemble(declaring(made, declared[2]))) if part.startswith("Over the seeds")]
    assert same == "Over the seeds that both have, the 1 primary contrast that could be tested on both comes out the same."
    assert not [part for part in shorter.section(assemble(made)) if part.startswith("Over the seeds")]


@pytest.mark.parametrize(
    ("change", "error"),
    [
        ({"tokens": TOKENS}, f"{TOKENS}, wanted at least one batch of 256, and fewer than the 6,144 of train.tokens"),
        ({"tokens": 255}, "255, wanted at least one batch of 256"),
        ({"seeds": [0, 2]}, "shorter.seeds[1]: 2, wanted one of the suite's seeds, 0, 1"),
        ({"metrics": ["downstream_loss"]}, "downstream_loss is no metric that the suite measures, wanted one of explained_variance, sparsity"),
        ({"metrics": [{"metric": "sparsity", "only": {"k": [5]}}]}, "5, wanted a value of k that some SAE of the suite is read at"),
        ({"steps": 4}, "steps"),
    ],
)
def test_what_is_no_shorter_training_is_refused(change: dict[str, Any], error: str, material: Path, tmp_path: Path) -> None:
    """With the key, what was given, and what is wanted."""
    with pytest.raises(SuiteError) as found:
        load(arguments(material, tmp_path, shorter=LESS | change)[1])
    assert error in str(found.value) and "shorter" in str(found.value)
