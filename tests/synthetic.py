"""A stream whose truth is known: sparse mixtures of unit directions, with unequal frequencies, plus a little noise."""

from collections.abc import Iterator

import torch
from torch import Tensor

from sae_bench_htopk.stream import Units, measure

D, ATOMS, ACTIVE = 24, 64, 5


def raw_rows(count: int, seed: int, shift: float = 3.0) -> Tensor:
    """Activations [count, D], not centred and not scaled."""
    truth = torch.Generator().manual_seed(99)
    atoms = torch.nn.functional.normalize(torch.randn(ATOMS, D, generator=truth), dim=1)
    offset = shift * torch.randn(D, generator=truth)
    random = torch.Generator().manual_seed(seed)
    odds = 1 / torch.arange(1, ATOMS + 1)
    chosen = torch.multinomial(odds.expand(count, -1), ACTIVE, generator=random)
    amounts = torch.rand(count, ACTIVE, generator=random) + 0.5
    mixed = torch.zeros(count, ATOMS).scatter_(1, chosen, amounts) @ atoms
    return 4 * mixed + offset + 0.05 * torch.randn(count, D, generator=random)


def units() -> Units:
    """The scale and statistics of this stream."""
    return measure(raw_rows(4096, seed=1))


def batches(count: int, size: int, seed: int = 2) -> Iterator[Tensor]:
    """`count` scaled batches of `size` rows."""
    scale = units().scale
    for index in range(count):
        yield raw_rows(size, seed=seed * 1000 + index) * scale
