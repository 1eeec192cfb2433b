"""The one loss against its definition under plain autograd, one row and one prefix at a time, in float64."""

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from sae_bench_htopk import ops
from sae_bench_htopk import prefix_loss as module
from sae_bench_htopk.prefix_loss import prefix_loss, prefix_loss_reference
from tests.synthetic import SHAPES, ragged


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("kind", ["every prefix", "last", "some", "only the empty prefix", "full rows"])
@pytest.mark.parametrize("cached", [1, 40, 2**19])
def test_loss_and_gradients_are_those_of_the_definition(shape: tuple[int, ...], kind: str, cached: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Loss and every gradient agree with autograd over the loop to 1e-12, a row at a time, a few, or all at once."""
    monkeypatch.setattr(module, "CACHED", cached)
    batch, d, latents, longest = shape
    random = torch.Generator().manual_seed(5)
    values, index, offsets = ragged(batch, latents, longest, seed=sum(shape), full=kind == "full rows")
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
    for function in (lambda *a: prefix_loss(*a)[0], prefix_loss_reference):
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
    _, x_hat = prefix_loss(values, index, offsets, W, b, x, omega.double(), omega_0.double())
    dense = torch.zeros(6, 10, dtype=torch.float64)
    for row in range(6):
        for code in range(int(offsets[row]), int(offsets[row + 1])):
            dense[row, index[code]] += values[code]
    torch.testing.assert_close(x_hat, b + dense @ W)


@pytest.mark.parametrize("kind", ["every prefix", "last"])
def test_nothing_is_as_large_as_a_row_for_each_code(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """No tensor of forward or backward has d numbers for each code, whether codes are fewer than latents or more."""
    monkeypatch.setattr(ops, "GATHERED", 200)
    monkeypatch.setattr(module, "CACHED", 200)
    for latents in (30, 900):
        values, index, offsets = ragged(20, latents, 6, seed=3, full=True)
        W, b, x = (torch.randn(*size, dtype=torch.float64) for size in ((latents, 10), (10,), (20, 10)))
        omega, omega_0 = (weights.double() for weights in ops.last_prefix(offsets)) if kind == "last" else (torch.rand_like(values), x.new_zeros(20))
        with Shapes() as made:
            prefix_loss(values.requires_grad_(), index, offsets, W.requires_grad_(), b.requires_grad_(), x, omega, omega_0)[0].backward()
        wide = {shape for shape in made.seen if len(shape) > 1 and shape[-1] == 10}
        assert (latents, 10) in wide and all(shape in {(latents, 10), (20, 10)} or shape[0] * 10 <= 200 for shape in wide)


class Shapes(TorchDispatchMode):
    """Notes the shape of every tensor that an operation gives."""

    def __init__(self) -> None:
        """Nothing seen."""
        super().__init__()
        self.seen: set[tuple[int, ...]] = set()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
        """Runs the operation as it is."""
        answer = func(*args, **(kwargs or {}))
        self.seen |= {tuple(one.shape) for one in (answer if isinstance(answer, tuple | list) else [answer]) if isinstance(one, torch.Tensor)}
        return answer


@pytest.mark.parametrize("shape", SHAPES)
def test_prefix_loss_passes_gradcheck(shape: tuple[int, ...]) -> None:
    """Its gradients for values, decoder and bias are the numerical ones, with weight on every prefix, the empty one too."""
    batch, d, latents, longest = shape
    values, index, offsets = ragged(batch, latents, longest, seed=4)
    draw = lambda *size: torch.rand(*size, dtype=torch.float64)  # noqa: E731
    x, omega, omega_0 = draw(batch, d), draw(len(values)), draw(batch)
    inputs = [values.requires_grad_(), draw(latents, d).requires_grad_(), draw(d).requires_grad_()]
    assert torch.autograd.gradcheck(lambda v, W, b: prefix_loss(v, index, offsets, W, b, x, omega, omega_0)[0], inputs)
