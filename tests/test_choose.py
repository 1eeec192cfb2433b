"""Proposals in bfloat16 choose what float32 chooses: over shapes, with ties of rounding, and where a few dimensions are massive."""

import pytest
import torch
from torch import Tensor

from sae_bench_htopk import choose, ops

CHOOSERS = [(choose.per_row, ops.choose_per_row), (choose.per_batch, ops.choose_per_batch)]


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
    assert torch.equal(mine[1], theirs[1])
    owner = ops.owners(mine[1])
    torch.testing.assert_close(scores[owner, mine[0]], scores[owner, theirs[0]], rtol=0, atol=1e-6)


@pytest.mark.parametrize("massive", [0.0, 300.0])
@pytest.mark.parametrize("shape", [(1, 8, 16), (40, 64, 300), (130, 96, 2000), (700, 33, 517)])
@pytest.mark.parametrize(("mine", "theirs"), CHOOSERS)
def test_the_choice_is_that_of_float32(mine, theirs, shape: tuple[int, int, int], massive: float) -> None:  # type: ignore[no-untyped-def]
    """Batch after batch, at several k, with one memory of margins and thresholds for all of them."""
    for k in (1, 7, 16):
        proposals = choose.Proposals(margin=4)
        for seed in range(4):
            x, W, b = problem(*shape, massive, seed)
            scores = torch.addmm(b, x, W.T).relu()
            same(mine(x, W, b, k, proposals), theirs(scores, k), scores)


def test_rows_of_massive_dimensions_are_done_again_and_others_are_not() -> None:
    """Every eighth row cannot be proven, whatever the margin; the rest is, once the margin has grown; the rates say so."""
    for massive, low, high in ((0.0, 0.0, 0.01), (300.0, 0.125, 0.135)):
        proposals = choose.Proposals(margin=8)
        for seed in range(30):
            choose.per_row(*problem(256, 64, 4096, massive, seed), 16, proposals)
        before = proposals.redone
        choose.per_row(*problem(256, 64, 4096, massive, 31), 16, proposals)
        assert low <= (proposals.redone - before) / 256 <= high


def test_the_bound_holds_and_is_not_idle() -> None:
    """No bfloat16 score is further from the float32 one than its row's bound and the rounding of the score; some come within a twentieth."""
    x, W, b = problem(300, 128, 3000, 5.0)
    rounded = choose.Rounded.of(x, W, b)
    true, rough = torch.addmm(b, x, W.T), rounded.scores(slice(None)).float()
    miss = (true - rough).abs() - rough.abs() * 2 * choose.ROUND
    assert bool((miss <= rounded.error[:, None]).all())
    assert float((miss / rounded.error[:, None]).max()) > 0.05


def test_a_margin_too_small_is_found_out() -> None:
    """The margin grows from 1 until at most 1% of rows are done again, and the choice is right all the while."""
    proposals = choose.Proposals(margin=1)
    margins = []
    for seed in range(25):
        x, W, b = problem(256, 64, 4096, seed=seed)
        scores = torch.addmm(b, x, W.T).relu()
        same(choose.per_row(x, W, b, 16, proposals), ops.choose_per_row(scores, 16), scores)
        margins.append(proposals.margin)
    assert margins[0] > 1 and margins[-1] == margins[-4] < 1000
    assert 0 < proposals.rate() < 1
