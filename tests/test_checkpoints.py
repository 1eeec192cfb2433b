"""SAEs that are kept on the way: the same bits as the whole training has there, rows of their own, and a place of their own on the page."""

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from sae_bench_htopk import earlier, leaderboard, plan, records, resume, suite, trainer
from sae_bench_htopk.__main__ import main
from sae_bench_htopk.board import assemble
from sae_bench_htopk.keys import learners, together
from sae_bench_htopk.page import page
from sae_bench_htopk.plan import Item
from sae_bench_htopk.run import Runner
from tests.test_run import material
from tests.test_run import suite as write

__all__ = ["material"]  # a fixture
STEPS, BATCH = 32, 256
CHANGES: dict[str, Any] = {
    "saes": [{"variant": "topk", "k": 8}, {"variant": "batchtopk", "k": 8}], "controls": ["pca", "random_decoder"], "read": {"k": [4, 8]},
    "metrics": ["explained_variance", "sparsity"], "checkpoints": [0.25, 0.5],
    "train": {"tokens": STEPS * BATCH, "batch": BATCH, "latents": 64, "dead_after": 1024, "rate": 0.003, "block": 2048},
}  # fmt: skip


def of(material: Path, folder: Path, **changes: Any) -> Path:
    """The file of the suite; without checkpoints if they are None."""
    return write(material, folder, **{name: value for name, value in (CHANGES | changes).items() if value is not None})


def arguments(material: Path, folder: Path, command: str = "run", **changes: Any) -> list[str]:
    """Of the command line; the suite lies beside what it makes."""
    return [command, str(of(material, folder, **changes)), "--output", str(folder), "--device", "cpu"]


def items(material: Path, folder: Path, **changes: Any) -> list[Item]:
    """What there is to do."""
    return Runner(suite.load(str(of(material, folder, **changes))), folder, "cpu").items


def file(folder: Path, item: Item) -> Path:
    """The weights of one."""
    return plan.weights_path(folder, "small", item.training.key)


@pytest.fixture(scope="module")
def done(few_draws: None, material: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The whole suite with its page."""
    folder = tmp_path_factory.mktemp("done")
    assert main(arguments(material, folder)) == 0
    return folder


def test_a_checkpoint_is_what_training_had_come_to(done: Path, material: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Against the weights of each SAE as they were after that many steps, and against a run without checkpoints, whose ends are the same."""
    monkeypatch.setattr(leaderboard, "build", lambda root, name: root / f"{name}.md")
    seen: dict[tuple[str, int], torch.Tensor] = {}
    take = trainer.Learner.take

    def taken(self: trainer.Learner, x: torch.Tensor) -> Any:
        step = take(self, x)
        seen[type(self.variant).__name__.lower(), self.tokens // BATCH] = self.variant.W_dec.detach().clone()
        return step

    monkeypatch.setattr(trainer.Learner, "take", taken)
    assert main(arguments(material, tmp_path, checkpoints=None)) == 0
    found = items(material, done)
    assert [item.todo for item in found] == ["done"] * 8 and len({item.training.key for item in found}) == 8
    for item in found:
        if not item.training.control:
            steps = {0.25: 8, 0.5: 16, 1.0: 32}[item.training.share]
            assert torch.equal(load_file(file(done, item))["sae.W_dec"], seen[item.training.variant, steps])
    for item in items(material, tmp_path, checkpoints=None):
        one, other = load_file(file(done, item)), load_file(file(tmp_path, item))
        assert all(torch.equal(one[name], other[name]) for name in other)


def test_each_has_a_record_and_the_page_keeps_them_apart(done: Path) -> None:
    """As many rows as the whole, tokens and operations of its own part; tables of the whole know nothing of them."""
    found = records.read_all(done / "leaderboard" / "small")
    shares = {}
    for record in found:
        shares.setdefault(record["sae"]["variant"], {})[record["sae"].get("share", 1.0)] = record
    assert {name: sorted(own) for name, own in shares.items()} == {
        "topk": [0.25, 0.5, 1.0], "batchtopk": [0.25, 0.5, 1.0], "pca": [1.0], "random_decoder": [1.0],
    }  # fmt: skip
    for name in ("topk", "batchtopk"):
        own = shares[name]
        assert [own[share]["cost"]["train_tokens"] for share in (0.25, 0.5, 1.0)] == [8 * BATCH, 16 * BATCH, 32 * BATCH]
        assert own[1.0]["cost"]["flops"] == 2 * own[0.5]["cost"]["flops"] == 4 * own[0.25]["cost"]["flops"]
        assert len({len(record["rows"]) for record in own.values()}) == 1
        missing = {
            (share, row["reading"]["select"])
            for share, record in own.items() for row in record["rows"] if None in row["values"].values()
        }  # fmt: skip
        assert missing == ({(0.25, "ema"), (0.5, "ema")} if name == "batchtopk" else set())  # a running threshold begins after half of the tokens
    alone = [record for record in found if "share" not in record["sae"]]
    board, without = assemble(found), assemble(alone)
    assert [stage.share for stage in board.earlier] == [0.25, 0.5] and board.records == without.records and not without.earlier
    text = page(board, {})
    apart = text[text.index("## On fewer tokens") : text.index("\n## ", text.index("## On fewer tokens")) + 1]
    end = "## Where the numbers come from"
    assert text.replace(apart, "").partition(end)[0] == page(without, {}).partition(end)[0]
    assert f"Records: {len(found)} in" in text and f"Records: {len(alone)} in" in page(without, {})
    (row,) = [line for line in apart.splitlines() if line.startswith("| topk")]
    value = {share: next(r for r in record["rows"] if r["reading"]["k"] == 8 and r["native"]) for share, record in shares["topk"].items()}
    shown = [float(cell) for cell in row.strip("| ").split(" | ")[2:]]
    assert shown == pytest.approx([value[share]["values"]["explained_variance.ev"] for share in (0.25, 0.5, 1.0)], rel=0.005)


def with_ev(found: list[records.Record], **ev: dict[float, float]) -> list[records.Record]:
    """The records with these numbers at k = 8 by each variant's native selector, of the shares that are named; measured L0s are 8."""
    kept = [copy.deepcopy(record) for record in found if record["sae"].get("share", 1.0) in ev.get(record["sae"]["variant"], {1.0: 0})]
    for record in kept:
        for row in record["rows"]:
            if record["sae"]["variant"] in ev and row["reading"]["k"] == 8 and row["native"]:
                row["values"] |= {"explained_variance.ev": ev[record["sae"]["variant"]][record["sae"].get("share", 1.0)], "sparsity.l0": 8.0}
    return kept


def test_who_was_ahead_is_said_of_what_both_stages_have(done: Path) -> None:
    """A lead that turns, one that stays, and stages that cannot be compared: of those nothing is said."""
    found = records.read_all(done / "leaderboard" / "small")
    turned = with_ev(found, topk={0.25: 0.3, 0.5: 0.5, 1.0: 0.7}, batchtopk={0.25: 0.4, 0.5: 0.6, 1.0: 0.6})
    said = earlier.verdict(assemble(turned))
    assert "at k = 8 batchtopk was ahead after 0.5 of the tokens, topk after all" in said and said.count("at k = 8 ") == 1  # it stayed ahead from 0.25 to 0.5
    stayed = with_ev(found, topk={0.25: 0.5, 0.5: 0.6, 1.0: 0.7}, batchtopk={0.25: 0.4, 0.5: 0.5, 1.0: 0.6})
    assert "at k = 8" not in earlier.verdict(assemble(stayed)) and earlier.verdict(assemble(stayed))
    lacking = with_ev(found, topk={1.0: 0.7}, batchtopk={0.25: 0.8, 0.5: 0.8, 1.0: 0.6})
    assert earlier.verdict(assemble(lacking)) == ""


def test_checkpoints_alone_are_no_board(done: Path, tmp_path: Path) -> None:
    """Their page says what they are, and the index of boards leaves it out."""
    (folder := tmp_path / "small").mkdir()
    for record in records.read_all(done / "leaderboard" / "small"):
        if record["sae"].get("share", 1.0) < 1:
            records.write(folder, record)
    text = leaderboard.build(tmp_path, "small").read_text(encoding="utf-8")
    assert "**No SAE here was trained to its end: all are checkpoints, after 0.5 of the tokens.**" in text and "## On fewer tokens" in text
    assert "No board has been published yet." in (tmp_path / "README.md").read_text(encoding="utf-8")


def test_a_checkpoint_that_is_wanted_later_is_trained_up_to_there(done: Path, material: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No further, to the same bits, and what is there already stays; plan says so."""
    monkeypatch.setattr(leaderboard, "build", lambda root, name: root / f"{name}.md")
    assert main(arguments(material, tmp_path, checkpoints=None)) == 0
    before = {path: path.read_bytes() for path in (tmp_path / "runs" / "small").glob("*.safetensors")}
    todo = [item for item in items(material, tmp_path) if item.todo != "done"]
    assert [(item.training.variant, item.training.share, item.todo) for item in todo] == [
        (name, share, "train") for name in ("topk", "batchtopk") for share in (0.25, 0.5)
    ]
    assert {item.why for item in todo} == {"this share of the tokens was not kept"}
    fresh = [item.training for item in todo]
    assert [one.share for one in learners(fresh)] == [0.5, 0.5] and [len(kept) for kept in together(fresh).values()] == [2, 2]
    steps, take = [], trainer.Learner.take
    monkeypatch.setattr(trainer.Learner, "take", lambda self, x: (steps.append(1), take(self, x))[1])
    assert main(arguments(material, tmp_path)) == 0 and len(steps) == 2 * 16
    for item in todo:
        one, other = load_file(file(tmp_path, item)), load_file(file(done, item))
        assert all(torch.equal(one[name], other[name]) for name in other)
    assert all(path.read_bytes() == content for path, content in before.items())


class Killed(BaseException):
    """As if the process had ended there."""


@pytest.mark.parametrize("at", [7, 8, 9, 15, 20])
def test_killed_around_a_checkpoint_it_comes_to_the_same(at: int, done: Path, material: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a snapshot after every step; a checkpoint that is gone, behind the last snapshot, is trained anew."""
    monkeypatch.setattr(leaderboard, "build", lambda root, name: root / f"{name}.md")
    every = {"snapshot": {"minutes": 1e-9}}
    keep = resume.Snapshots.keep

    def killing(self: resume.Snapshots, step: int, *rest: Any) -> None:
        keep(self, step, *rest)
        if step == at:
            raise Killed

    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(resume.Snapshots, "keep", killing)
        main(arguments(material, tmp_path, **every))
    found = {(item.training.variant, item.training.share): item for item in items(material, tmp_path, **every)}
    assert [share for (name, share), item in found.items() if name == "topk" and item.todo == "evaluate"] == [
        share for share in (0.25, 0.5) if 32 * share <= at
    ]
    if at == 20:
        file(tmp_path, found["topk", 0.25]).unlink()
    assert main(arguments(material, tmp_path, **every)) == 0
    for item in found.values():
        one, other = load_file(file(tmp_path, item)), load_file(file(done, item))
        assert all(torch.equal(one[name], other[name]) for name in other)
    assert not (tmp_path / "runs" / "small" / "snapshots").exists()
