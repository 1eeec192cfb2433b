"""The shared maths against plain autograd and plain loops, in float64."""

import pytest
import torch
from torch import Tensor

from sae_bench_htopk import ops

SHAPES = [(1, 3, 5, 1), (7, 5, 11, 3), (16, 24, 40, 8), (4, 1, 2, 2), (9, 17, 33, 5)]  # batch, d, latents, longest row


def ragged(batch: int, latents: int, longest: int, seed: int) -> tuple[Tensor, Tensor, Tensor]:
    """Random codes whose rows differ in length; some are empty, and latents repeat across rows and within one."""
    random = torch.Generator().manual_seed(seed)
    lengths = torch.randint(0, longest + 1, (batch,), generator=random)
    offsets = torch.cat((torch.zeros(1, dtype=torch.long), lengths.cumsum(0)))
    count = int(offsets[-1])
    return torch.rand(count, generator=random, dtype=torch.float64), torch.randint(latents, (count,), generator=random), offsets


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("kind", ["every prefix", "last", "some", "only the empty prefix"])
def test_prefix_loss_and_gradients_are_those_of_the_definition(shape: tuple[int, ...], kind: str) -> None:
    """Loss and every gradient agree with autograd over the loop to 1e-12."""
    batch, d, latents, longest = shape
    random = torch.Generator().manual_seed(5)
    values, index, offsets = ragged(batch, latents, longest, seed=sum(shape))
    draw = lambda *size: torch.randn(*size, generator=random, dtype=torch.float64)  # noqa: E731
    W, b, x = draw(latents, d), draw(d), draw(batch, d)
    omega, omega_0 = torch.rand(len(values), generator=random, dtype=torch.float64), torch.rand(batch, generator=random, dtype=torch.float64)
    if kind == "last":
        omega, omega_0 = (weights.double() for weights in ops.last_prefix(offsets))
    elif kind == "some":
        omega = omega * (omega > 0.5)
    elif kind == "only the empty prefix":
        omega = torch.zeros_like(omega)
    answers = []
    for function in (lambda *a: ops.prefix_loss(*a)[0], ops.prefix_loss_reference):
        leaves = [tensor.clone().requires_grad_() for tensor in (values, W, b)]
        loss = function(leaves[0], index, offsets, leaves[1], leaves[2], x, omega, omega_0)
        gradients = torch.autograd.grad(loss, leaves, allow_unused=True)
        answers.append([loss, *(torch.zeros_like(leaf) if g is None else g for g, leaf in zip(gradients, leaves, strict=True))])
    for ours, wanted in zip(*answers, strict=True):
        torch.testing.assert_close(ours, wanted, rtol=1e-12, atol=1e-12)


def test_prefix_loss_x_hat_is_the_decoded_codes() -> None:
    """The x_hat that comes with the loss is bias plus all codes, by a dense product."""
    values, index, offsets = ragged(6, 10, 4, seed=3)
    W, b, x = torch.randn(10, 8, dtype=torch.float64), torch.randn(8, dtype=torch.float64), torch.randn(6, 8, dtype=torch.float64)
    omega, omega_0 = ops.last_prefix(offsets)
    _, x_hat = ops.prefix_loss(values, index, offsets, W, b, x, omega.double(), omega_0.double())
    dense = torch.zeros(6, 10, dtype=torch.float64)
    for row in range(6):
        for code in range(int(offsets[row]), int(offsets[row + 1])):
            dense[row, index[code]] += values[code]
    torch.testing.assert_close(x_hat, b + dense @ W)


def test_preactivations_at_passes_gradcheck() -> None:
    """Its gradients for rows, encoder and bias are the numerical ones."""
    _, index, offsets = ragged(5, 7, 3, seed=8)
    inputs = [torch.randn(*size, dtype=torch.float64, requires_grad=True) for size in ((5, 4), (7, 4), (7,))]
    assert torch.autograd.gradcheck(lambda x, W, b: ops.preactivations_at(x, W, b, index, offsets), inputs)


def test_choices_are_the_largest_scores() -> None:
    """Rows hold their k largest positive scores, descending; the batch its batch * k largest; the threshold all above it."""
    scores = torch.tensor([[0.5, 0.0, 3.0, 1.0], [0.0, -1.0, 0.0, 0.2], [2.0, 2.5, 0.1, 0.0]])
    latents, offsets = ops.choose_per_row(scores, 2)
    assert latents.tolist() == [2, 3, 3, 1, 0] and offsets.tolist() == [0, 2, 3, 5]
    latents, offsets = ops.choose_per_batch(scores, 1)
    assert latents.tolist() == [2, 1, 0] and offsets.tolist() == [0, 1, 1, 3]
    latents, offsets = ops.choose_above(scores, 0.2)
    assert latents.tolist() == [2, 3, 0, 1, 0] and offsets.tolist() == [0, 3, 3, 5]


def test_batch_choice_keeps_all_when_the_budget_is_wide() -> None:
    """With fewer positive scores than batch * k, every positive score is kept and nothing else."""
    latents, offsets = ops.choose_per_batch(torch.tensor([[0.0, 1.0], [0.0, 0.0]]), 2)
    assert latents.tolist() == [1] and offsets.tolist() == [0, 1, 1]


def test_sort_by_latent_stays_within_rows() -> None:
    """Each row's latents ascend; rows do not mix."""
    assert ops.sort_by_latent(torch.tensor([5, 2, 9, 1, 0]), torch.tensor([0, 3, 3, 5]), 10).tolist() == [2, 5, 9, 0, 1]


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
