"""The loss over all K prefixes with its gradients: ours against the cumulative sum that the paper's formula suggests. Run by hand:

python -m tests.bench.prefixes

The materialised form holds [batch, K, d] several times; ours never does. Prints a Markdown table of medians and extra memory.
"""

import statistics
import time
from collections.abc import Callable

import torch
from tabulate import tabulate
from torch import Tensor

from sae_bench_htopk.prefix_loss import prefix_loss
from tests.bench.machine import extra_memory, machine

BATCH, D, LATENTS, ROUNDS = 2048, 768, 16384, 5


def problem(k: int) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """(values, latents, W_dec, b_dec, x): full rows, latents with frequencies that fall by rank."""
    random = torch.Generator().manual_seed(0)
    odds = torch.arange(1, LATENTS + 1) ** -0.7
    latents = torch.randperm(LATENTS, generator=random)[torch.multinomial(odds.expand(BATCH, -1), k, generator=random)]
    values = torch.rand(BATCH, k, generator=random).sort(1, descending=True).values / k
    W = torch.nn.functional.normalize(torch.randn(LATENTS, D, generator=random), dim=1)
    return values.requires_grad_(), latents, W.requires_grad_(), torch.zeros(D, requires_grad=True), torch.randn(BATCH, D, generator=random) / D**0.5


def materialised(values: Tensor, latents: Tensor, W: Tensor, b: Tensor, x: Tensor) -> Tensor:
    """The mean over prefixes from a cumulative sum over codes."""
    so_far = (torch.nn.functional.embedding(latents, W) * values[:, :, None]).cumsum(1)
    return ((x - b)[:, None] - so_far).square().sum(2).mean()


def ours(values: Tensor, latents: Tensor, W: Tensor, b: Tensor, x: Tensor) -> Tensor:
    """The same by two sweeps."""
    k = values.shape[1]
    offsets = torch.arange(0, BATCH * k + 1, k)
    return prefix_loss(values.flatten(), latents.flatten(), offsets, W, b, x, torch.full((BATCH * k,), 1 / k), torch.zeros(BATCH))[0]


def run(loss: Callable[..., Tensor], inputs: tuple[Tensor, ...]) -> list[Tensor]:
    """Loss and gradients."""
    value = loss(*inputs)
    return [value.detach(), *torch.autograd.grad(value, [leaf for leaf in inputs if leaf.requires_grad])]


def compare(k: int) -> list[tuple[object, ...]]:
    """One row for each form, after both gave the same loss and gradients."""
    inputs, forms = problem(k), {"materialised": materialised, "ours": ours}
    for mine, theirs in zip(*(run(form, inputs) for form in forms.values()), strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-3, atol=1e-5 * float(theirs.abs().max()))
    seconds: dict[str, list[float]] = {name: [] for name in forms}
    for _ in range(ROUNDS):
        for name, form in forms.items():
            clock = time.perf_counter()
            run(form, inputs)
            seconds[name].append(time.perf_counter() - clock)
    median = {name: statistics.median(values) for name, values in seconds.items()}
    memory = {name: extra_memory(lambda form=form: run(form, inputs)) for name, form in forms.items()}
    return [(k, name, 1000 * median[name], median["materialised"] / median[name], memory[name]) for name in forms]


if __name__ == "__main__":
    print(f"{machine()}\n\nbatch = {BATCH}, d = {D}, {LATENTS:,} latents, {ROUNDS} rounds\n")
    rows = [row for k in (32, 64, 128) for row in compare(k)]
    print(tabulate(rows, ["K", "form", "median ms", "x", "extra MB"], "github", floatfmt=("", "", ".0f", ".1f", ".0f")))
