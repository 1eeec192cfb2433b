"""How alike the contexts are in which a latent fires: by their tokens (quadratic entropy), and by their vectors (monosemanticity score, arXiv:2504.02821)."""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int

from sae_bench_htopk import ops
from sae_bench_htopk.census import Estimate, Firings, Scores, summed
from sae_bench_htopk.contexts import Contexts

CELLS = 2**18  # of a table of latents and tokens that is summed at a time, so few that they stay in cache
NUMBERS = 2**20  # of vectors that are summed at a time
NOTHING_LEFT = 1e-4  # share of all pairs: below it what is left of sums in float32 is rounding
undefined = np.errstate(divide="ignore", invalid="ignore")  # a latent without weight has no number: NaN


def token_sums(latent: Int[np.ndarray, " nnz"], token: Int[np.ndarray, " nnz"], value: Float[np.ndarray, " nnz"], tokens: int) -> Float[np.ndarray, " nnz"]:
    """For each entry the sum of its latent's values on its token; entries come by latent, and a block of latents is summed at a time."""
    sums, step = np.empty(len(value)), max(1, CELLS // max(1, tokens))
    for start in range(0, int(latent.max(initial=-1)) + 1, step):
        part = slice(*np.searchsorted(latent, (start, start + step)).tolist())
        cell = (latent[part] - start) * tokens + token[part]
        sums[part] = np.bincount(cell, value[part])[cell] if len(cell) else 0.0
    return sums


def same_token(firings: Firings, weights: Float[np.ndarray, " documents"]) -> Scores:
    """How often two firings of a latent are on one token, over pairs of different rows, counted by a_i a_j: 1 less its quadratic (Gini-Simpson) entropy.

    Of few firings this has no bias, where Shannon's entropy is far too small and grows with their number. A random latent has what all pairs
    of rows have, however often it fires.
    """
    value, contexts, starts = firings.value * weights[firings.document], firings.contexts, firings.runs[:-1]
    shared = value * token_sums(firings.latent, contexts.token[firings.row], value, contexts.tokens)
    along, total, squares = (np.add.reduceat(part, starts) for part in (shared, value, value**2))
    return mean_over_pairs(firings, along - squares, total, squares, weights)


class Run(NamedTuple):
    """Sums over the entries of one latent in one document: with a the weighted values, e the contexts' vectors, S and T the latent's sums of a e and a."""

    along: Float[np.ndarray, " runs"]  # S . sum a e
    within: Float[np.ndarray, " runs"]  # |sum a e|^2
    with_itself: Float[np.ndarray, " runs"]  # sum a^2 |e|^2
    total: Float[np.ndarray, " runs"]  # sum a
    squares: Float[np.ndarray, " runs"]  # sum a^2


def blocks(firings: Firings, width: int) -> Iterator[tuple[slice, slice]]:
    """Entries and runs of a few latents at a time, so that their vectors are not all in memory at once."""
    ends, runs = firings.counts.cumsum(), firings.runs
    start = 0
    while start < len(firings.latent):
        fits = int(np.searchsorted(ends, start + NUMBERS // width, side="right"))
        end = int(ends[min(max(fits - 1, int(np.searchsorted(ends, start, side="right"))), len(ends) - 1)])
        yield slice(start, end), slice(*np.searchsorted(runs, (start, end)).tolist())
        start = end


def sums(firings: Firings, weights: Float[np.ndarray, " documents"]) -> Run:
    """Of every run, in linear time: no pair is looked at."""
    vectors, runs = firings.contexts.vectors, firings.runs
    assert vectors is not None
    value = firings.value * weights[firings.document]
    norms = vectors.double().square().sum(1).numpy()[firings.row]
    total, squares, with_itself = (np.add.reduceat(part, runs[:-1]) for part in (value, value**2, value**2 * norms))
    along, within = np.empty(len(total)), np.empty(len(total))
    for entries, few in blocks(firings, vectors.shape[1]):
        scale = value[entries].max() or 1.0  # float32 has room for any scale of activations
        offsets = torch.from_numpy(np.append(runs[few], entries.stop) - entries.start)
        vector_sums = ops.decode(torch.from_numpy(value[entries] / scale).float(), torch.from_numpy(firings.row[entries]), offsets, vectors)
        owner = torch.from_numpy(np.unique(firings.latent[runs[few]], return_inverse=True)[1])
        whole = torch.zeros(int(owner[-1]) + 1, vectors.shape[1]).index_add_(0, owner, vector_sums)
        along[few] = torch.linalg.vecdot(whole[owner], vector_sums).double().numpy() * scale**2
        within[few] = torch.linalg.vecdot(vector_sums, vector_sums).double().numpy() * scale**2
    return Run(along, within, with_itself, total, squares)


class Cosines(NamedTuple):
    """Over all pairs of different rows, and over those of different documents."""

    pairs: Scores
    apart: Scores


def cosines(firings: Firings, weights: Float[np.ndarray, " documents"]) -> Cosines:
    """The mean cosine of each latent's contexts over pairs of rows, counted by a_i a_j.

    The linear-time form of arXiv:2602.12403: (|sum a e|^2 - own) / ((sum a)^2 - own), where `own` is what is no such pair. Min-max scaling of
    activations is scaling by the maximum, as a latent is silent somewhere, and cancels. Under weights a row never meets its own copy.
    """
    run = sums(firings, weights)
    pairs = mean_over_pairs(firings, run.along - run.with_itself, run.total, run.squares, weights)
    return Cosines(pairs, mean_over_pairs(firings, run.along - run.within, run.total, run.total**2, weights))


@undefined
def mean_over_pairs(
    firings: Firings,
    met: Float[np.ndarray, " runs"],
    total: Float[np.ndarray, " runs"],
    own: Float[np.ndarray, " runs"],
    weights: Float[np.ndarray, " documents"],
) -> Scores:
    """Each latent's mean of what its pairs come to: `met` by run, what is no pair taken off; `own` is the weight of what is none."""
    starts, latents = firings.runs[:-1], len(firings.names)
    latent = firings.latent[starts]
    whole = summed(latent, total, latents)
    weight = total * whole[latent] - own
    pairs = summed(latent, weight, latents)
    mean = np.where(pairs > NOTHING_LEFT * whole**2, summed(latent, met, latents) / pairs, np.nan)
    return Scores(mean, latent, firings.document[starts], 2 * (met - mean[latent] * weight) / pairs[latent], len(weights))


class Pairs(NamedTuple):
    """What all pairs of the sample come to: of two rows, how often of one token, and their mean cosines."""

    token: Estimate
    cosine: Estimate | None
    apart: Estimate | None


def random_pairs(contexts: Contexts, weights: Float[np.ndarray, " documents"]) -> Pairs:
    """That of a latent that fires on every row alike."""
    rows = np.arange(len(contexts.document))
    nowhere = np.zeros(len(rows), dtype=np.int64)
    everywhere = Firings(nowhere, rows, np.ones(len(rows)), nowhere, np.zeros(1, dtype=np.int64), contexts, rows)
    token = same_token(everywhere, weights).mean()
    if contexts.vectors is None:
        return Pairs(token, None, None)
    found = cosines(everywhere, weights)
    return Pairs(token, found.pairs.mean(), found.apart.mean())
