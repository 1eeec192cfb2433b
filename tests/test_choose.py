"""Proposals in bfloat16 choose what float32 chooses: over shapes, with ties of rounding, and where a few dimensions are massive."""

import pytest
import torch
from torch import Tensor

from sae_bench_htopk import choose, ops


def per_batch_of(x: Tensor, W: Tensor, b: Tensor, k: int, proposals: choose.Proposals) -> ops.Ragged:
    """From scores that are there."""
    return choose.per_batch_of(torch.addmm(b, x, W.T), k, proposals)


CHOOSERS = [(choose.per_row, ops.choose_per_row), (choose.per_batch, ops.choose_per_batch), (per_batch_of, ops.choose_per_batch)]


def problem(batch: int, d: int, latents: int, massive: float = 0.0, seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    """Rows that share directions, encoder rows of various norms, biases; `massive` is added to two dimensions of every eighth row."""
    random = torch.Generator().manual_seed(seed)
    W = torch.nn.functional.normalize(torch.randn(latents, d, generator=random), dim=1) * (0.5 + torch.rand(latents, 1, generator=random))
    x = torch.randn(batch, 12, generator=random).relu() @ W[torch.randperm(latents, generator=random)[:12]] + 0.05 * torch.randn(batch, d, generator=random)
    x = x / x.square().sum(1).mean().sqrt()
    x[::8, :2] += massive
    if massive:
        W[:, :2] *= 1e-3  # an encoder learns to look past them
    return x, W, 0.05 * torch.randn(latents, generator=random)


def same(mine: ops.Ragged, theirs: ops.Ragged, scores: Tensor) -> None:
    """Equal up to the order of float32 sums: where latents differ, their scores are within 1e-6 of one another."""
    assert torch.equal(mine[2], theirs[2])
    owner = ops.owners(mine[2])
    torch.testing.assert_close(scores[owner, mine[1]], scores[owner, theirs[1]], rtol=0, atol=1e-6)
    torch.testing.assert_close(mine[0], scores[owner, mine[1]], rtol=0, atol=1e-6)


@pytest.mark.parametrize("massive", [0.0, 300.0])
@pytest.mark.parametrize("shape", [(1, 8, 16), (40, 64, 300), (130, 96, 2000), (700, 33, 517)])
@pytest.mark.parametrize(("mine", "theirs"), CHOOSERS)
def test_the_choice_is_that_of_float32(mine, theirs, shape: tuple[int, int, int], massive: float) -> None:  # type: ignore[no-untyped-def]
    """Batch after batch, at several k, with one memory for all of them."""
    for k in (1, 7, 16):
        proposals = choose.Proposals()
        for seed in range(4):
            x, W, b = problem(*shape, massive, seed)
            scores = torch.addmm(b, x, W.T).relu()
            same(mine(x, W, b, k, proposals), theirs(scores, k), scores)


@pytest.mark.parametrize("mine", [choose.per_row, choose.per_batch])
def test_rows_of_massive_dimensions_are_done_in_float32_and_others_are_not(mine) -> None:  # type: ignore[no-untyped-def]
    """Every eighth row cannot be proven; the rest is, from a few proposals more than k; and the record says so."""
    for massive, share in ((0.0, 0.0), (300.0, 0.125)):
        proposals = choose.Proposals(threshold=0.5)  # far above all scores for a batch that shares its budget: the first one is done in float32
        mine(*problem(256, 64, 4096, massive), 16, proposals)
        before = proposals.redone, proposals.rows
        for seed in range(1, 9):
            mine(*problem(256, 64, 4096, massive, seed), 16, proposals)
        assert (proposals.redone - before[0]) / (proposals.rows - before[1]) == pytest.approx(share, abs=0.02)
        assert 16 <= proposals.story()["proposed_per_row"] < 100 and proposals.story()["bfloat16_rows"] == 9 * 256


def test_rows_with_fewer_than_k_positive_scores() -> None:
    """They give what is positive; where every latent is surely below 0 there is nothing to give."""
    x, W, b = problem(200, 64, 2000)
    for shift in (-0.9, -5.0):
        scores = torch.addmm(b + shift, x, W.T).relu()
        assert int((scores > 0).sum(1).max()) < 100
        same(choose.per_row(x, W, b + shift, 128, choose.Proposals()), ops.choose_per_row(scores, 128), scores)


def test_the_bound_holds_and_is_not_idle() -> None:
    """No bfloat16 score is further from the float32 one than its row's bound and the rounding of the score; some come within a twentieth."""
    x, W, b = problem(300, 128, 3000, 5.0)
    rounded = choose.Rounded.of(x, W, b)
    true, rough = torch.addmm(b, x, W.T), torch.cat([scores for _, scores in rounded.scores()]).float()
    miss = (true - rough).abs() - rough.abs() * 2 * choose.ROUND
    assert bool((miss <= rounded.error[:, None]).all())
    assert float((miss / rounded.error[:, None]).max()) > 0.05


@pytest.mark.parametrize(("mine", "theirs"), CHOOSERS)
def test_rows_that_would_propose_nearly_all_are_done_in_float32(mine, theirs) -> None:  # type: ignore[no-untyped-def]
    """Where biases drown what tells latents apart, and where squares of rows or weights vanish in float32."""
    x, W, b = problem(64, 32, 2048)
    for rows, bias in ((x, b + 1000), (x * 1e-25, b * 0), (x[:, :0].new_zeros(64, 32), b)):
        proposals, scores = choose.Proposals(threshold=1e-30 if rows is not x else 1000.0), torch.addmm(bias, rows, W.T).relu()
        chosen = mine(rows, W, bias, 8, proposals)
        worst = chosen[0].min() if len(chosen[0]) else torch.zeros(())
        wanted = theirs(scores, 8)
        assert len(chosen[0]) == len(wanted[0]) and torch.equal(chosen[0], scores[ops.owners(chosen[2]), chosen[1]])
        torch.testing.assert_close(worst, wanted[0].min() if len(wanted[0]) else torch.zeros(()), rtol=1e-6, atol=0)
        assert proposals.proposed <= choose.MOST * 8 * 64


def test_one_crowded_row_widens_no_other() -> None:
    """A row whose latents are all alike, in bfloat16, is done in float32; the rest is proposed as before."""
    x, W, b = problem(100, 64, 4096)
    x[7] *= 1e-6
    b = b * 0 + 0.01
    proposals, scores = choose.Proposals(), torch.addmm(b, x, W.T).relu()
    same(choose.per_row(x, W, b, 8, proposals), ops.choose_per_row(scores, 8), scores)
    assert proposals.redone == 1


def test_proposals_are_for_large_encoders_on_a_cpu_that_has_bfloat16(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where torch does not say whether it has, they are left; so they are for few multiplications a latent and in float64."""
    x, W = torch.zeros(4, 64), torch.zeros(4096, 64)
    monkeypatch.setattr(choose, "has_bfloat16", lambda: True)
    assert choose.worth_it(x, W, 8) and not choose.worth_it(x, W, 9) and not choose.worth_it(x.double(), W.double(), 8)
    monkeypatch.undo()
    monkeypatch.delattr(torch.cpu, "_is_avx512_bf16_supported", raising=False)
    assert not choose.has_bfloat16.__wrapped__()


@pytest.mark.parametrize(("latents", "k"), [(4096, 16), (517, 7), (2048, 1024), (64, 64)])
def test_k_latents_reach_what_it_says(latents: int, k: int) -> None:
    """At least k scores of each row; and where groups are many, not many more."""
    scores = torch.randn(50, latents, generator=torch.Generator().manual_seed(0)).bfloat16()
    reached = (scores.float() >= choose.k_reach(scores, k)[:, None]).sum(1)
    assert int(reached.min()) >= k and float(reached.float().mean()) < 1.4 * k + 1


def test_places_of_what_is_true() -> None:
    """Those of nonzero, for sizes that eight divides and others."""
    for shape in ((3, 7), (4, 6), (1, 8), (5, 64)):
        mask = torch.rand(shape, generator=torch.Generator().manual_seed(1)) < 0.2
        assert torch.equal(choose.true_places(mask), mask.flatten().nonzero()[:, 0])
