"""What the whole curve of explained variance against L0 costs, beside its last point alone and beside one decode per budget. Run by hand:

python -m tests.bench.curve

Ours encodes once at K, decodes once, and sweeps the prefixes; the others encode at K and decode at K alone, or at every k from 1 to K.
Prints a Markdown table of medians over rounds in turn, with the most that the three errors at K differ by.
"""

import statistics
import time
from collections.abc import Callable

import torch
from tabulate import tabulate
from torch import Tensor

from sae_bench_htopk import plugins
from sae_bench_htopk.contract import Reading, Variant
from sae_bench_htopk.prefix_loss import prefix_errors
from tests.bench.machine import machine

SHAPES = [(192, 2048, 128), (768, 16384, 128)]  # d, latents, K
BATCH, ROUNDS = 4096, 5


@torch.no_grad()
def last(variant: Variant, x: Tensor, K: int) -> Tensor:
    """The error of each row at K alone."""
    return (x - variant.decode(variant.encode(x, Reading(K)))).square().sum(1)


@torch.no_grad()
def one_by_one(variant: Variant, x: Tensor, K: int) -> Tensor:
    """The same after decoding every prefix of the codes at K."""
    codes = variant.encode(x, Reading(K))
    return [(x - variant.decode(codes.prefix(k))).square().sum(1) for k in range(1, K + 1)][-1]


@torch.no_grad()
def ours(variant: Variant, x: Tensor, K: int) -> Tensor:
    """The same after one sweep, which has the errors of all prefixes on its way."""
    codes = variant.encode(x, Reading(K))
    error = (x - variant.decode(codes)).square().sum(1)
    _, after = prefix_errors(*codes, variant.W_dec, variant.b_dec, x)
    ends = after[codes.offsets[1:] - 1]
    assert torch.allclose(error, ends, rtol=1e-3, atol=1e-5)
    return ends


def compare(d: int, latents: int, K: int) -> list[tuple[object, ...]]:
    """A row for each way at one shape."""
    kind, random = plugins.variant("topk"), torch.Generator().manual_seed(0)
    variant, x = kind(kind.Config(k=K), d, latents, 0), torch.nn.functional.normalize(torch.randn(BATCH, d, generator=random), dim=1)
    ways: dict[str, Callable[[Variant, Tensor, int], Tensor]] = {"k = K alone": last, "every k, one sweep": ours, "every k, one decode each": one_by_one}
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(ROUNDS + 1):
        for name, way in ways.items():
            clock = time.perf_counter()
            way(variant, x, K)
            seconds[name].append(time.perf_counter() - clock)
    median = {name: statistics.median(values[1:]) for name, values in seconds.items()}
    return [(d, latents, K, name, 1000 * value, value / median["k = K alone"]) for name, value in median.items()]


if __name__ == "__main__":
    print(f"{machine()}\n\n{BATCH} rows, {ROUNDS} rounds\n")
    rows = [row for shape in SHAPES for row in compare(*shape)]
    print(tabulate(rows, ["d", "latents", "K", "what", "median ms", "x"], "github", floatfmt=("", "", "", "", ".0f", ".2f")))
