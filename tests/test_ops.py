"""The shared maths against dense products, plain autograd and plain loops, in float64."""

import pytest
import torch

from sae_bench_htopk import ops
from tests.synthetic import SHAPES, ragged


def test_preactivations_pass_gradcheck() -> None:
    """For x, b_dec, W_enc and b_enc; and they are the formula's."""
    random = torch.Generator().manual_seed(1)
    x, b_dec, W, b = (torch.randn(*size, generator=random, dtype=torch.float64, requires_grad=True) for size in ((4, 3), (3,), (5, 3), (5,)))
    assert torch.autograd.gradcheck(ops.preactivations, (x, b_dec, W, b))
    torch.testing.assert_close(ops.preactivations(x, b_dec, W, b), (x - b_dec) @ W.T + b)


def test_preactivations_at_passes_gradcheck() -> None:
    """Its gradients for the encoder and both biases are the numerical ones."""
    _, index, offsets = ragged(5, 7, 3, seed=8)
    x, *inputs = (torch.randn(*size, dtype=torch.float64, requires_grad=bool(number)) for number, size in enumerate(((5, 4), (4,), (7, 4), (7,))))
    assert torch.autograd.gradcheck(lambda b_dec, W, b: ops.preactivations_at(x, b_dec, W, b, index, offsets), inputs)


def test_choices_are_the_largest_scores() -> None:
    """Rows hold their k largest positive scores, descending; the batch its batch * k largest; the threshold all above it."""
    scores = torch.tensor([[0.5, 0.0, 3.0, 1.0], [0.0, -1.0, 0.0, 0.2], [2.0, 2.5, 0.1, 0.0]])
    values, latents, offsets = ops.choose_per_row(scores, 2)
    assert torch.equal(values, scores[ops.owners(offsets), latents]) and latents.tolist() == [2, 3, 3, 1, 0] and offsets.tolist() == [0, 2, 3, 5]
    values, latents, offsets = ops.choose_per_batch(scores, 1)
    assert torch.equal(values, scores[ops.owners(offsets), latents]) and latents.tolist() == [2, 1, 0] and offsets.tolist() == [0, 1, 1, 3]
    values, latents, offsets = ops.choose_above(scores, 0.2)
    assert torch.equal(values, scores[ops.owners(offsets), latents]) and latents.tolist() == [2, 3, 0, 1, 0] and offsets.tolist() == [0, 3, 3, 5]


def test_batch_choice_keeps_all_when_the_budget_is_wide() -> None:
    """With fewer positive scores than batch * k, every positive score is kept and nothing else."""
    _, latents, offsets = ops.choose_per_batch(torch.tensor([[0.0, 1.0], [0.0, 0.0]]), 2)
    assert latents.tolist() == [1] and offsets.tolist() == [0, 1, 1]


def test_sort_by_latent_stays_within_rows() -> None:
    """Each row's latents ascend; rows do not mix."""
    values, latents, offsets = ops.sort_by_latent(torch.arange(5.0), torch.tensor([5, 2, 9, 1, 0]), torch.tensor([0, 3, 3, 5]), 10)
    assert latents.tolist() == [2, 5, 9, 0, 1] and values.tolist() == [1, 0, 2, 4, 3] and offsets.tolist() == [0, 3, 3, 5]


@pytest.mark.parametrize("shape", SHAPES)
def test_both_forms_of_dots_agree(shape: tuple[int, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    """torch's private kernel and the public fall-back give the dense product's entries; without the kernel the fall-back serves."""
    batch, d, latents, longest = shape
    _, index, offsets = ragged(batch, latents, longest, seed=2)
    rows, table = torch.randn(batch, d, dtype=torch.float64), torch.randn(latents, d, dtype=torch.float64)
    wanted = (rows @ table.T)[ops.owners(offsets), index]
    torch.testing.assert_close(ops.dots(rows, table, index, offsets), wanted)
    monkeypatch.setattr(ops, "bag_dots", None)
    torch.testing.assert_close(ops.dots(rows, table, index, offsets), wanted)
