"""All tokens of the held-out text that was shown, by document, so that the words around any of them can be looked up."""

from dataclasses import dataclass
from functools import cache, cached_property, lru_cache
from typing import NamedTuple

import numpy as np
from jaxtyping import Int
from torch import Tensor

from sae_bench_htopk.contract import Text

NOTHING = -1  # in place of a token where a document does not reach, or was not shown


class Piece(NamedTuple):
    """The tokens of one batch of text."""

    document: Int[np.ndarray, " rows"]
    position: Int[np.ndarray, " rows"]
    token: Int[np.ndarray, " rows"]
    span: Int[np.ndarray, "rows 2"]


@dataclass(frozen=True, eq=False)
class Transcript:
    """It never changes: `follow` makes the next one, once per batch of text, so that all SAEs that see the same text share it."""

    pieces: tuple[Piece, ...] = ()

    @classmethod
    @cache
    def empty(cls) -> "Transcript":
        """That of no text, where every SAE begins."""
        return cls()

    @cached_property
    def sorted(self) -> tuple[Int[np.ndarray, " rows"], Piece]:
        """(document and position as one number, ascending; the tokens in that order)."""
        whole = Piece(*(np.concatenate([getattr(piece, name) for piece in self.pieces]) for name in Piece._fields))
        place = whole.document.astype(np.int64) << 32 | whole.position.astype(np.int64)
        order = place.argsort(kind="stable")
        return place[order], Piece(*(part[order] for part in whole))

    def find(self, document: Int[np.ndarray, "..."], position: Int[np.ndarray, "..."]) -> Int[np.ndarray, "..."]:
        """The places in `sorted` of tokens by document and position; NOTHING for those that were not shown."""
        places, _ = self.sorted
        wanted = document.astype(np.int64) << 32 | position.astype(np.int64)
        index = np.searchsorted(places, wanted).clip(max=len(places) - 1)
        return np.where((position >= 0) & (places[index] == wanted), index, NOTHING)

    def around(self, document: Int[np.ndarray, " rows"], position: Int[np.ndarray, " rows"], before: int, after: int = 0) -> Int[np.ndarray, "rows window"]:
        """The tokens from `before` tokens ahead of each row to `after` tokens behind it; NOTHING beyond the document's ends."""
        positions = position[:, None] + np.arange(-before, after + 1)
        index = self.find(np.broadcast_to(document[:, None], positions.shape), positions)
        return np.where(index == NOTHING, NOTHING, self.sorted[1].token[index])


def follow(before: Transcript, text: Text) -> Transcript:
    """The transcript after one more batch of text."""
    return written(before, text.document, text.position, text.token, text.span)


@lru_cache(maxsize=2)
def written(
    before: Transcript, document: Int[Tensor, " batch"], position: Int[Tensor, " batch"], token: Int[Tensor, " batch"], span: Int[Tensor, "batch 2"]
) -> Transcript:
    """Tensors are told apart by identity: the same text in the same tensors is looked at once, whatever the number of SAEs."""
    fields = (document, position, token, span)
    return Transcript((*before.pieces, Piece(*(part.cpu().numpy() for part in fields))))
