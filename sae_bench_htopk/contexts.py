"""The sampled rows as contexts: which token each row is, and one vector for it and the few tokens before it, the same for every SAE."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import TypeAlias

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import normalize

from sae_bench_htopk import ops
from sae_bench_htopk.sample import Sample
from sae_bench_htopk.transcript import NOTHING, Transcript

BEFORE = 7  # tokens ahead of a row's own that belong to its context
Embed: TypeAlias = Callable[[Int[Tensor, " tokens"]], Float[Tensor, "tokens width"]]


@dataclass(frozen=True, eq=False)
class Contexts:
    """The rows of a sample by document; `place` leads from a row's place in the sample to its place here."""

    place: Int[np.ndarray, " rows"]
    document: Int[np.ndarray, " rows"]  # ascending
    token: Int[np.ndarray, " rows"]  # of those in the sample, numbered from 0
    vectors: Float[Tensor, "rows width"] | None  # of norm 1 (0 where all embeddings are 0); None: the language model has no embeddings

    @property
    def tokens(self) -> int:
        """How many different tokens the rows are."""
        return int(self.token.max(initial=-1)) + 1


@lru_cache(maxsize=2)
def contexts_of(sample: Sample, transcript: Transcript, embed: Embed | None) -> Contexts:
    """Once for all SAEs that see the same text."""
    order = sample.rows.document.argsort(kind="stable")
    rows, place = sample.rows.take(order), np.empty(len(order), dtype=np.int64)
    place[order] = np.arange(len(order))
    token = np.unique(rows.token, return_inverse=True)[1].astype(np.int64)
    vectors = None if embed is None else embedded(transcript.around(rows.document, rows.position, BEFORE), embed)
    return Contexts(place, rows.document.astype(np.int64), token, vectors)


def embedded(windows: Int[np.ndarray, "rows window"], embed: Embed) -> Float[Tensor, "rows width"]:
    """The mean of the tokens' unit embeddings, made a unit itself; what lies beyond the document is left out.

    Unit embeddings, since rare tokens often have far smaller ones: the frequent token of a context would outshout the others.
    """
    known = windows != NOTHING
    tokens, index = np.unique(windows[known], return_inverse=True)
    table = normalize(embed(torch.from_numpy(tokens.astype(np.int64))).float().cpu(), dim=1)
    offsets = torch.from_numpy(np.concatenate(([0], known.sum(1).cumsum())))
    return normalize(ops.decode(torch.ones(len(index)), torch.from_numpy(index.astype(np.int64)), offsets, table), dim=1)
