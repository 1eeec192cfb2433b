"""The stream of activations that SAEs are trained on: token windows in, shuffled and scaled batches out."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import chain
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float, Int
from torch import Tensor

from sae_bench_htopk.contract import Statistics
from sae_bench_htopk.text import TextError
from sae_bench_htopk.windows import Window, Windows, batches

ROWS_AT_ONCE = 4096  # tokens that the model and the SAEs take at once
OPENING_ROWS = 2**17  # real tokens that scale, mean and the limit of massive norms are measured on
MASSIVE = 10.0  # times the median norm


@runtime_checkable
class Activations(Protocol):
    """What the stream wants of a language model."""

    def activations(self, tokens: Int[Tensor, "windows context"]) -> Float[Tensor, "windows context d"]:
        """The activations at the hook point; no layer after it runs."""


@dataclass(frozen=True)
class Units:
    """How raw activations become the SAE's: x = scale * raw, and which raw norms are massive. Saved with every SAE."""

    scale: float  # makes the mean squared norm 1
    massive_limit: float  # a raw norm
    statistics: Statistics  # in scaled units

    def is_massive(self, raw: Float[Tensor, "rows d"]) -> Tensor:
        """Marks rows whose norm is above the limit."""
        massive: Tensor = raw.norm(dim=1) > self.massive_limit
        return massive


def windows_at_once(context: int) -> int:
    """How many windows go through the model together."""
    return max(1, ROWS_AT_ONCE // context)


def harvest(model: Activations, windows: Windows) -> Float[Tensor, "rows d"]:
    """Raw activations of the real tokens of some windows, float32."""
    return model.activations(windows.tokens)[windows.real].float()


def measure(raw: Float[Tensor, "rows d"]) -> Units:
    """Scale, limit of massive norms, mean and covariance, from float64 sums over all rows that are not massive."""
    norms = raw.norm(dim=1)
    limit = MASSIVE * float(norms.median())
    rows = raw[norms <= limit].double()
    scale = float(rows.square().sum(1).mean().rsqrt())
    rows = rows * scale
    mean = rows.mean(0)
    centred = rows - mean
    return Units(scale, limit, Statistics(mean.float(), (centred.T @ centred / len(rows)).float()))


class Stream:
    """Blocks of shuffled activations; block n depends on the windows, the seed and n alone, and ends before n + 1 begins."""

    def __init__(self, model: Activations, windows: Iterable[Window], context: int, bos: int, block: int, seed: int, tokens: int) -> None:
        """Harvests the opening, from which `units` come. Raises TextError if the text holds nothing."""
        self.model, self.seed, self.tokens = model, seed, tokens
        self.massive = self.rows = 0
        self.raw: Iterator[Tensor] = map(self.harvest_block, chunked(batches(windows, windows_at_once(context), context, bos), block))
        opening: list[Tensor] = []
        while sum(map(len, opening)) < min(OPENING_ROWS, tokens) and (rows := next(self.raw, None)) is not None:
            opening.append(rows)
        if not opening:
            raise TextError("text: the training part holds no tokens")
        self.units = measure(torch.cat(opening))
        self.raw = chain(opening, self.raw)

    def harvest_block(self, windows: list[Windows]) -> Float[Tensor, "rows d"]:
        """The raw activations of one block, in the order of its windows."""
        return torch.cat([harvest(self.model, part) for part in windows])

    def blocks(self) -> Iterator[Float[Tensor, "rows d"]]:
        """Yields scaled blocks, massive rows out, rows shuffled."""
        for number, raw in enumerate(self.raw):
            kept = raw[~self.units.is_massive(raw)]
            self.rows += len(raw)
            self.massive += len(raw) - len(kept)
            order = torch.randperm(len(kept), generator=torch.Generator().manual_seed(self.seed * 1_000_003 + number))
            yield kept[order.to(kept.device)] * self.units.scale

    def batches(self, size: int) -> Iterator[Float[Tensor, "batch d"]]:
        """Yields whole batches; what is left of a block beyond its last whole batch is dropped."""
        for block in self.blocks():
            for start in range(0, len(block) - size + 1, size):
                yield block[start : start + size]


def chunked(parts: Iterable[Windows], tokens: int) -> Iterator[list[Windows]]:
    """Yields lists of parts that together hold at least so many real tokens; windows of short documents are half empty."""
    chunk: list[Windows] = []
    held = 0
    for part in parts:
        chunk.append(part)
        held += int(part.real.sum())
        if held >= tokens:
            yield chunk
            chunk, held = [], 0
    if chunk:
        yield chunk
