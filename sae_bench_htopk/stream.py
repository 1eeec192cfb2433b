"""The stream of activations that SAEs are trained on: token windows in, shuffled and scaled batches out."""

from collections.abc import Generator, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from itertools import chain
from typing import Protocol, TypeVar, runtime_checkable

import torch
from jaxtyping import Float, Int
from torch import Tensor

from sae_bench_htopk.contract import Statistics
from sae_bench_htopk.text import TextError
from sae_bench_htopk.windows import Cut, Position, Windows, batches

ROWS_AT_ONCE = 4096  # tokens that the model and the SAEs take at once
OPENING_ROWS = 2**17  # real tokens that scale, mean and the limit of massive norms are measured on
MASSIVE = 10.0  # times the median norm

Item = TypeVar("Item")


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


@dataclass(frozen=True)
class Place:
    """Where the stream stands: a block that is begun, how many of its batches were taken, and what was before it."""

    block: int
    taken: int  # batches
    rows: int  # harvested before the block
    massive: int  # of them
    text: Position  # at which the block's own text begins


@dataclass(frozen=True)
class Blocks:
    """Where blocks of activations are held, and whether each is made while the one before is used; neither moves a number."""

    device: str | None = None  # that batches are wanted on; None: where the model gives activations
    pinned: bool = False  # held on the host, from where batches are copied to a GPU beside its work
    ahead: bool = False

    def there(self, rows: Float[Tensor, "rows d"]) -> Float[Tensor, "rows d"]:
        """Rows on the device."""
        return rows if self.device is None else rows.to(self.device, non_blocking=True)

    def shuffled(self, rows: Float[Tensor, "rows d"], order: Int[Tensor, " rows"], scale: float) -> Float[Tensor, "rows d"]:
        """Rows in an order, scaled."""
        block = rows[order.to(rows.device)] * scale
        return block.pin_memory() if self.pinned and self.device == "cuda" else block


class Stream:
    """Blocks of shuffled activations; block n depends on the windows, the seed and n alone, and ends before n + 1 begins.

    So it can be made anew at a place: that block is harvested again, and its batches that were taken are passed over.
    """

    def __init__(
        self,
        model: Activations,
        windows: Cut,
        context: int,
        bos: int,
        block: int,
        seed: int,
        tokens: int,
        known: tuple[Units, Place] | None = None,
        held: Blocks = Blocks(),
    ) -> None:
        """Harvests the opening, from which `units` come, unless they are known and `windows` begin at the place. Raises TextError if the text holds nothing."""
        self.model, self.windows, self.seed, self.held = model, windows, seed, held
        self.massive = self.rows = 0
        self.closed = False
        blocks = self.harvest_all(chunked(batches(windows, windows_at_once(context), context, bos), block))
        self.source = ahead(blocks, held.device) if held.ahead else blocks
        self.harvested: Iterator[tuple[Position, Tensor]] = self.source
        if known is not None:
            self.units, self.begun = known
            self.rows, self.massive = self.begun.rows, self.begun.massive
            return
        self.begun = Place(0, 0, 0, 0, windows.position())
        opening: list[tuple[Position, Tensor]] = []
        while sum(len(raw) for _, raw in opening) < min(OPENING_ROWS, tokens) and (item := next(self.harvested, None)) is not None:
            opening.append(item)
        if not opening:
            raise TextError("text: the training part holds no tokens")
        self.units = measure(held.there(torch.cat([raw for _, raw in opening])))
        self.harvested = chain(opening, self.harvested)

    def close(self) -> None:
        """Harvests no more, and lets go of what was harvested ahead; waits for what the model is reading."""
        self.closed = True
        self.source.close()

    def harvest_all(self, chunks: Iterator[list[Windows]]) -> Generator[tuple[Position, Float[Tensor, "rows d"]]]:
        """Each block's raw activations in the order of its windows, and the position at which its text begins."""
        while True:
            start = self.windows.position()
            if (chunk := next(chunks, None)) is None:
                return
            parts = [harvest(self.model, part).to("cpu" if self.held.pinned else self.held.device) for part in chunk if not self.closed]
            if self.closed:
                return
            yield start, torch.cat(parts)

    def blocks(self) -> Iterator[Float[Tensor, "rows d"]]:
        """Yields scaled blocks, massive rows out, rows shuffled."""
        for number, (start, raw) in enumerate(self.harvested, self.begun.block):
            self.begun = Place(number, self.begun.taken if number == self.begun.block else 0, self.rows, self.massive, start)
            if raw.is_cuda:
                raw.record_stream(torch.cuda.current_stream())  # whose memory another stream has made
            kept = raw[~self.units.is_massive(raw)]
            self.rows += len(raw)
            self.massive += len(raw) - len(kept)
            order = torch.randperm(len(kept), generator=torch.Generator().manual_seed(self.seed * 1_000_003 + number))
            yield self.held.shuffled(kept, order, self.units.scale)

    def batches(self, size: int) -> Iterator[Float[Tensor, "batch d"]]:
        """Yields whole batches; what is left of a block beyond its last whole batch is dropped. `begun` is then the place after the batch."""
        for block in self.blocks():
            for start in range(self.begun.taken * size, len(block) - size + 1, size):
                self.begun = replace(self.begun, taken=start // size + 1)
                yield self.held.there(block[start : start + size])


def ahead(items: Iterator[Item], device: str | None = None) -> Generator[Item]:
    """The same items in the same order, each made in a thread while the one before is used, so that at most one is held ahead; errors come in their turn.

    On a GPU the thread has a stream of its own, and an item is given when all of it is there.
    """
    own = torch.cuda.Stream() if device == "cuda" else None

    def make() -> Item | None:
        with torch.cuda.stream(own):  # of None it does nothing
            item = next(items, None)
        if own is not None:
            own.synchronize()
        return item

    if own is not None:
        own.wait_stream(torch.cuda.current_stream())
    with ThreadPoolExecutor(1, "ahead") as pool:
        waiting = pool.submit(make)
        while (item := waiting.result()) is not None:
            waiting = pool.submit(make)
            yield item


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
