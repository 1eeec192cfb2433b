"""Cuts documents into token windows that each open with BOS, taking turns among many open documents."""

from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from typing import NamedTuple

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


def cut(documents: Iterable[Document], encode: Encode, context: int) -> Iterator[Window]:
    """Yields windows of at most context - 1 tokens, one from each of OPEN_DOCUMENTS documents in turn; no document shares one."""

    def pieces(index: int, ids: np.ndarray, spans: np.ndarray | None) -> Iterator[Window]:
        for start in range(0, len(ids), context - 1):
            end = start + context - 1
            yield Window(index, start, ids[start:end], None if spans is None else spans[start:end])

    waiting = (pieces(index, *encode(document.text)) for index, document in enumerate(documents))  # an open document's text is not kept
    open_documents = [*islice(waiting, OPEN_DOCUMENTS)]
    while open_documents:
        for place in range(len(open_documents) - 1, -1, -1):
            window = next(open_documents[place], None)
            if window is not None:
                yield window
            elif (another := next(waiting, None)) is not None:
                open_documents[place] = another
            else:
                del open_documents[place]


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
