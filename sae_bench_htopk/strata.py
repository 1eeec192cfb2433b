"""Draws a few held-out rows that stand for all: from every document in proportion to its length, whatever the cut into batches."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache, lru_cache

import numpy as np
import torch
from jaxtyping import Bool, Float, Int, UInt64
from torch import Tensor

from sae_bench_htopk.sample import shuffled


def quotas(limit: int, lengths: Sequence[int]) -> Int[np.ndarray, " documents"]:
    """How many of `limit` rows each document gives: its share of all rows, rounded by largest remainder; of equal ones the first is rounded up."""
    share = limit * np.asarray(lengths, dtype=np.float64) / max(1, sum(lengths))
    whole = np.floor(share).astype(np.int64)
    whole[np.argsort(whole - share, kind="stable")[: round(float(share.sum())) - int(whole.sum())]] += 1
    return whole


@dataclass(frozen=True, eq=False)
class Stratified:
    """Of each document the rows of smallest key, as many as its quota; sorted by document, then by key.

    Keys are a fixed shuffle of (document, position), so the sample does not depend on the order of rows. A document with fewer
    plain rows than its quota gives those that it has; nobody else gives more for it. It never changes: `stratify` makes the next one.
    """

    quota: Int[np.ndarray, " documents"]
    document: Int[np.ndarray, " rows"]
    key: UInt64[np.ndarray, " rows"]
    x: Float[Tensor, "rows d"] | None = None  # on the CPU; None before the first batch
    massive: int = 0  # rows seen that were left out because their norm is massive

    @classmethod
    @cache
    def empty(cls, limit: int, lengths: tuple[int, ...]) -> "Stratified":
        """The sample of no text, where every SAE begins; `lengths` are the documents' rows, or 1 for each if they are not known."""
        return cls(quotas(limit, lengths), np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.uint64))


@lru_cache(maxsize=8)
def stratify(
    sample: Stratified, x: Float[Tensor, "batch d"], document: Int[Tensor, " batch"], position: Int[Tensor, " batch"], massive: Bool[Tensor, " batch"]
) -> tuple[Stratified, Int[np.ndarray, " entering"], Int[np.ndarray, " kept"]]:
    """The sample after one more batch, the rows of the batch that enter it, and its rows' places among those held before and then those.

    Tensors are told apart by identity: the same text in the same tensors is looked at once, whatever the number of SAEs.
    """
    of, at, plain = document.cpu().numpy().astype(np.int64), position.cpu().numpy().astype(np.uint64), ~massive.cpu().numpy()
    key = shuffled(of.astype(np.uint64) << np.uint64(32) | at)
    rows, held = np.flatnonzero(plain), len(sample.key)
    documents, keys = np.concatenate((sample.document, of[rows])), np.concatenate((sample.key, key[rows]))
    order = np.lexsort((keys, documents))
    place = np.arange(len(order)) - np.searchsorted(documents[order], documents[order])  # among the rows of the same document
    chosen = order[place < sample.quota[documents[order]]]
    new = chosen >= held
    entering, kept = rows[chosen[new] - held], chosen.copy()
    kept[new] = held + np.arange(int(new.sum()))
    arrived = x[torch.from_numpy(entering).to(x.device)].float().cpu()
    x_of = (arrived if sample.x is None else torch.cat((sample.x, arrived)))[torch.from_numpy(kept)]
    left_out = sample.massive + int((~plain).sum())
    return Stratified(sample.quota, documents[chosen], keys[chosen], x_of, left_out), entering, kept
