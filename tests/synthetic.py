"""A stream whose truth is known: sparse mixtures of unit directions, with unequal frequencies, plus a little noise."""

import dataclasses
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from sae_bench_htopk.contract import Variant
from sae_bench_htopk.stream import Units, measure

D, ATOMS, ACTIVE = 24, 64, 5
SHAPES = [(1, 3, 5, 1), (7, 5, 11, 3), (16, 24, 40, 8), (4, 1, 2, 2), (9, 17, 33, 5)]  # batch, d, latents, longest row


def settings(kind: type[Variant], k: int) -> Any:
    """A variant's settings at a budget of k, where it has one, and else its defaults."""
    return kind.Config(k=k) if "k" in {field.name for field in dataclasses.fields(kind.Config)} else kind.Config()


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


def ragged(batch: int, latents: int, longest: int, seed: int, full: bool = False) -> tuple[Tensor, Tensor, Tensor]:
    """Random codes in float64 whose rows differ in length, unless `full`; some are empty, and latents repeat across rows and within one."""
    random = torch.Generator().manual_seed(seed)
    lengths = torch.full((batch,), longest) if full else torch.randint(0, longest + 1, (batch,), generator=random)
    offsets = torch.cat((torch.zeros(1, dtype=torch.long), lengths.cumsum(0)))
    count = int(offsets[-1])
    return torch.rand(count, generator=random, dtype=torch.float64), torch.randint(latents, (count,), generator=random), offsets
