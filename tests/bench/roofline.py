"""The least time that one training step of a TopK or HierarchicalTopK SAE can take on a device, from how fast it multiplies and moves bytes.

The serial sum of what has to be done, each at full speed: a batch by the encoder in bfloat16; reading its scores once; reading one decoder row for
each code to decode, and as much again for the gradients of the decoder and of the encoder; weights, moments and bfloat16 copies through
Adam. At 790 TFLOP/s, 4.3 TB/s and 5.5 TB/s in cache, d = 2304, 65,536 latents and k = 128 that is 4.83 ms for 4,096 vectors and 7.84 ms for 8,192.
Where every prefix has a loss, each code has a gradient row of its own, which no cache holds: written and read in bfloat16 at the least, in place of
the decoder's. That makes it 5.5 and 9.2 ms; its arithmetic, up to 0.7 ms more, may hide behind the bytes.
"""

from collections.abc import Callable
from typing import NamedTuple

import torch

from tests.bench.machine import finished

ADAM = 26  # bytes of a weight: float32 weights and two moments, read and written, and a bfloat16 copy; the gradient never leaves the cache
CACHE = 5.5e12  # bytes/s of a GPU's L2, which is not measured here: assumed for an H200
LARGE, SMALL = 2**28, 2**20  # bytes of a copy that no cache holds, and of one that a core's own does
ROUNDS = 20


class Peaks(NamedTuple):
    """What a device does at most in a second."""

    product: float  # operations of a matrix product in bfloat16, or in float32 where that is faster
    memory: float  # bytes, read and written
    cache: float  # bytes
    cache_measured: bool

    def __str__(self) -> str:
        found = "measured" if self.cache_measured else "assumed"
        return f"{self.product / 1e12:.2f} TFLOP/s, {self.memory / 1e9:,.0f} GB/s, {self.cache / 1e9:,.0f} GB/s in cache ({found})"


class Shape(NamedTuple):
    """One SAE and its batch."""

    d: int
    latents: int
    k: int
    batch: int
    every_prefix: bool = False  # whether there is a loss for each prefix of the codes


def peaks(device: str) -> Peaks:
    """Measured in some seconds: the best of a few products and copies."""
    size = 8192 if device == "cuda" else 2048
    pairs = [[torch.randn(size, size, device=device).to(kind) for _ in range(2)] for kind in (torch.bfloat16, torch.float32)]
    product = max(2 * size**3 / least_seconds(lambda pair=pair: torch.mm(*pair), device) for pair in pairs)  # type: ignore[misc]
    measured = device != "cuda"
    return Peaks(product, copied(LARGE, device, 1), copied(SMALL, device, 100) if measured else CACHE, measured)


def copied(size: int, device: str, times: int) -> float:
    """Bytes a second, read and written, of copies of so many bytes."""
    source = torch.ones(size // 4, device=device)
    target = torch.empty_like(source)

    def copy() -> None:
        for _ in range(times):
            target.copy_(source)

    return 2 * size * times / least_seconds(copy, device)


def least_seconds(work: Callable[[], object], device: str) -> float:
    """Of some rounds, the fastest."""
    work()
    best = float("inf")
    for _ in range(ROUNDS):
        begun = finished(device)
        work()
        best = min(best, finished(device) - begun)
    return best


def step_seconds(shape: Shape, top: Peaks) -> float:
    """The least time of one step of one SAE."""
    d, latents, k, batch, every_prefix = shape
    product = 2 * batch * d * latents / top.product
    scores = 2 * batch * latents / top.memory
    rows = 2 * batch * k * d  # bytes, in bfloat16
    gradient = 2 * rows / top.memory if every_prefix else rows / top.cache
    return product + scores + 2 * rows / top.cache + gradient + ADAM * 2 * d * latents / top.memory
