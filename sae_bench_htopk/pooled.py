"""Whole documents as rows: what an SAE's codes, and x, are on average over each, for labels of documents such as topic and language."""

from dataclasses import dataclass
from functools import cache, cached_property, lru_cache

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from scipy import sparse
from sklearn.preprocessing import Normalizer
from torch import Tensor

from sae_bench_htopk import ops
from sae_bench_htopk.contract import Codes, Missing, Text
from sae_bench_htopk.floors import Plain, fitted
from sae_bench_htopk.labels import Labels
from sae_bench_htopk.questions import questions_of_documents


@dataclass(frozen=True, eq=False)
class Piece:
    """What one batch of text adds: the tokens that are not massive, and the sums of x over those of each document."""

    document: Int[np.ndarray, " rows"]
    token: Int[np.ndarray, " rows"]
    sums: Float[np.ndarray, "shown d"]  # by ascending document


@dataclass(frozen=True, eq=False)
class Pool:
    """All documents shown so far. It never changes: `shown` makes the next one, once per batch of text, so that all SAEs share it."""

    pieces: tuple[Piece, ...] = ()

    @classmethod
    @cache
    def empty(cls) -> "Pool":
        """That of no text, where every SAE begins."""
        return cls()

    @cached_property
    def rows(self) -> Int[np.ndarray, " documents"]:
        """How many rows each document has, up to the last that has any."""
        return np.bincount(np.concatenate([np.zeros(0, dtype=np.int64), *(piece.document for piece in self.pieces)]))

    def means(self) -> Float[np.ndarray, "documents d"]:
        """The mean x of each document; rounded, so that no cut into batches shows."""
        sums = np.zeros((len(self.rows), self.pieces[0].sums.shape[1]))
        for piece in self.pieces:
            sums[np.unique(piece.document)] += piece.sums
        return np.asarray(sums / np.maximum(self.rows, 1)[:, None], dtype=np.float32)

    def tokens(self) -> sparse.csr_matrix:
        """How often each document has each token."""
        owner, token = (np.concatenate([getattr(piece, name) for piece in self.pieces]) for name in ("document", "token"))
        return sparse.csr_matrix((np.ones(len(token)), (owner, token)), shape=(len(self.rows), int(token.max(initial=0)) + 1))


@lru_cache(maxsize=8)
def shown(before: Pool, x: Float[Tensor, "rows d"], document: Int[Tensor, " rows"], token: Int[Tensor, " rows"], massive: Bool[Tensor, " rows"]) -> Pool:
    """The pool after one more batch of text. Tensors are told apart by identity, so that it is looked at once, whatever the number of SAEs."""
    there, owner = document[~massive].unique(return_inverse=True)
    sums = torch.zeros(len(there), x.shape[1], dtype=torch.float64, device=x.device).index_add_(0, owner, x[~massive].double())
    return Pool((*before.pieces, Piece(document[~massive].cpu().numpy(), token[~massive].cpu().numpy(), sums.cpu().numpy())))


class PooledCodes:
    """One SAE's codes, summed over each document."""

    def __init__(self) -> None:
        self.pool = Pool.empty()
        self.pieces: list[sparse.coo_matrix] = []  # [documents, latents], of each batch

    def add(self, text: Text, codes: Codes, latents: int) -> None:
        """Takes in one batch; massive rows are left out."""
        self.pool = shown(self.pool, text.x, text.document, text.token, text.massive)
        owner = ops.owners(codes.offsets)
        plain = ~text.massive[owner]
        values, columns, document = (part.cpu().numpy() for part in (codes.values.detach()[plain].double(), codes.latents[plain], text.document[owner][plain]))
        piece = sparse.coo_matrix((values, (document, columns)), shape=(int(text.document.max()) + 1, latents))
        self.pieces.append(piece.tocsr().tocoo())  # which adds up what has one place

    def matrix(self, latents: int) -> sparse.csr_matrix:
        """The mean of each latent over each document, silent rows and all; rounded as x is."""
        values, documents, columns = (np.concatenate([getattr(piece, name) for piece in self.pieces]) for name in ("data", "row", "col"))
        rows = self.pool.rows
        sums = sparse.csr_matrix((values, (documents, columns)), shape=(len(rows), latents))
        return sparse.csr_matrix(sums.multiply(1 / np.maximum(rows, 1)[:, None])).astype(np.float32)


@lru_cache(maxsize=2)
def plain_of_documents(pool: Pool, texts: tuple[str, ...], labels: Labels) -> Plain | Missing:
    """The questions of the documents that have rows, or why there are none."""
    if not pool.pieces:
        return Missing("no held-out text")
    questions = questions_of_documents(np.flatnonzero(pool.rows), texts, labels)
    if isinstance(questions, Missing):
        return questions
    return Plain(questions, pool.means(), fitted(pool.tokens()[questions.rows], questions, Normalizer()))
