"""Cuts documents into token windows that each open with BOS, taking turns among many open documents."""

from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from typing import Any, NamedTuple, Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Bool, Int
from torch import Tensor

from sae_bench_htopk.text import Document

OPEN_DOCUMENTS = 64  # windows come from this many documents in turn, so that a long one never fills a block

Encode = Callable[[str], tuple[np.ndarray, np.ndarray | None]]  # text -> ids [tokens], character spans [tokens, 2] or None


class Window(NamedTuple):
    """One window: its document's index, the place of its first token in that document, its tokens and their spans."""

    document: int
    start: int
    ids: np.ndarray
    spans: np.ndarray | None


class Windows(NamedTuple):
    """Windows as tensors; column 0 is BOS, and `real` marks the tokens that are neither BOS nor padding."""

    tokens: Int[Tensor, "windows context"]
    real: Bool[Tensor, "windows context"]
    document: Int[Tensor, "windows context"]
    position: Int[Tensor, "windows context"]
    span: Int[Tensor, "windows context 2"]


@runtime_checkable
class Positioned(Protocol):
    """Documents in turn that know where their reading stands."""

    def __next__(self) -> Document:
        """The next one."""

    def state(self) -> dict[str, Any]:
        """As JSON, what is wanted to read on from here."""


class Open(NamedTuple):
    """One document that windows come from: its index, the place of its next window's first token, and what is left of it."""

    document: int
    start: int
    ids: np.ndarray
    spans: np.ndarray | None


class Position(NamedTuple):
    """Where cutting stands between two windows."""

    documents: dict[str, Any] | None  # where the reading of documents stands, if it knows
    given: int  # documents that were opened so far
    turn: int  # the place of the open document that is asked next; -1: a new round begins
    open: tuple[Open, ...]


class Cut(Iterator[Window]):
    """Windows of at most context - 1 tokens, one from each of OPEN_DOCUMENTS documents in turn; no document shares one.

    It can be made anew at a position, with documents that go on where those of the position stood.
    """

    def __init__(self, documents: Iterable[Document], encode: Encode, context: int, position: Position | None = None) -> None:
        """Opens nothing yet."""
        self.documents, self.encode, self.width = iter(documents), encode, context - 1
        self.given, self.turn = (position.given, position.turn) if position else (0, -1)
        self.open: list[Open] = list(position.open) if position else []

    def __next__(self) -> Window:
        """The next open document's next window; one that has none left makes place for another."""
        if not self.given:
            self.open = list(islice(iter(self.opened, None), OPEN_DOCUMENTS))
        while self.open:
            place = len(self.open) - 1 if self.turn < 0 else self.turn
            self.turn = place - 1
            document, start, ids, spans = self.open[place]
            if len(ids):
                rest = None if spans is None else spans[self.width :]
                self.open[place] = Open(document, start + self.width, ids[self.width :], rest)
                return Window(document, start, ids[: self.width], None if spans is None else spans[: self.width])
            if (another := self.opened()) is not None:
                self.open[place] = another
            else:
                del self.open[place]
        raise StopIteration

    def opened(self) -> Open | None:
        """The next document, if there is one."""
        if (document := next(self.documents, None)) is None:
            return None
        self.given += 1
        return Open(self.given - 1, 0, *self.encode(document.text))

    def position(self) -> Position:
        """Where it stands; copies no text."""
        return Position(self.documents.state() if isinstance(self.documents, Positioned) else None, self.given, self.turn, tuple(self.open))


def take(windows: Iterable[Window], tokens: int) -> list[Window]:
    """The first windows that together hold at least so many tokens, or all there are."""
    taken, held = [], 0
    for window in windows:
        taken.append(window)
        held += len(window.ids)
        if held >= tokens:
            break
    return taken


def lengths(windows: Iterable[Window], documents: int) -> list[int]:
    """How many tokens of each document some windows hold."""
    held = [0] * documents
    for window in windows:
        held[window.document] += len(window.ids)
    return held


def collate(windows: list[Window], context: int, bos: int) -> Windows:
    """Pads to one width (with BOS, which causal attention never sees from a real token) and marks what is real."""
    tokens = torch.full((len(windows), context), bos, dtype=torch.long)
    real = torch.zeros(len(windows), context, dtype=torch.bool)
    document, position = torch.zeros_like(tokens), torch.zeros_like(tokens)
    span = torch.zeros(len(windows), context, 2, dtype=torch.long)
    for row, window in enumerate(windows):
        place = slice(1, 1 + len(window.ids))
        tokens[row, place] = torch.from_numpy(window.ids.astype(np.int64))
        real[row, place] = True
        document[row] = window.document
        position[row, place] = window.start + torch.arange(len(window.ids))
        if window.spans is not None:
            span[row, place] = torch.from_numpy(window.spans.astype(np.int64))
    return Windows(tokens, real, document, position, span)


def batches(windows: Iterable[Window], size: int, context: int, bos: int) -> Iterator[Windows]:
    """Collates `size` windows at a time."""
    iterator = iter(windows)
    while chunk := list(islice(iterator, size)):
        yield collate(chunk, context, bos)
