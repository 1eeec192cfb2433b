"""How alike the contexts are in which a latent fires: by their tokens (entropy), and by their vectors (monosemanticity score, arXiv:2504.02821)."""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int
from scipy.special import xlogy

from sae_bench_htopk import ops
from sae_bench_htopk.census import LEAST, Estimate, Firings, Scores, summed
from sae_bench_htopk.contexts import Contexts

CELLS = 2**18  # of a table of latents and tokens that is summed at a time, so few that they stay in cache
DRAWS = 4  # of LEAST firings of each latent, and of random rows
NUMBERS = 2**20  # of vectors that are summed at a time
NOTHING_LEFT = 1e-4  # share of all pairs: below it what is left of sums in float32 is rounding
undefined = np.errstate(divide="ignore", invalid="ignore")  # a latent without weight has no number: NaN


def distinct(random: np.random.Generator, of: Int[np.ndarray, " draws"], count: int) -> Int[np.ndarray, "draws count"]:
    """`count` different numbers below each of `of`, in random order; there must be so many."""
    drawn = np.empty((len(of), 0), dtype=np.int64)
    for taken in range(count):
        number = random.integers(of - taken)  # among those not yet drawn
        for earlier in np.sort(drawn, axis=1).T:
            number = number + (number >= earlier)
        drawn = np.column_stack((drawn, number))
    return drawn


def rarefied(firings: Firings) -> tuple[Int[np.ndarray, "drawn few"], Int[np.ndarray, "drawn few"]]:
    """Entries of LEAST firings of each latent, DRAWS times one after the other, and as many random rows for each draw; every latent must have so many.

    Of entropies that are made of few firings, none is near the entropy of what they are drawn from: only such of equally many can be compared.
    """
    random, latents = np.random.default_rng(0), np.tile(np.arange(len(firings.names)), DRAWS)
    first = firings.counts.cumsum() - firings.counts
    entries = first[latents][:, None] + distinct(random, firings.counts[latents], LEAST)
    return entries, distinct(random, np.full(len(latents), len(firings.contexts.document)), LEAST)


class Entropies(NamedTuple):
    """Of each latent's tokens, in nats, and how each entry moves its latent's with the logarithm of its weight."""

    value: Float[np.ndarray, " latents"]
    change: Float[np.ndarray, " nnz"]


def token_sums(latent: Int[np.ndarray, " nnz"], token: Int[np.ndarray, " nnz"], value: Float[np.ndarray, " nnz"], tokens: int) -> Float[np.ndarray, " nnz"]:
    """For each entry the sum of its latent's values on its token; entries come by latent, and a block of latents is summed at a time."""
    sums, step = np.empty(len(value)), max(1, CELLS // max(1, tokens))
    for start in range(0, int(latent.max(initial=-1)) + 1, step):
        part = slice(*np.searchsorted(latent, (start, start + step)).tolist())
        cell = (latent[part] - start) * tokens + token[part]
        sums[part] = np.bincount(cell, value[part])[cell] if len(cell) else 0.0
    return sums


@undefined
def entropies(latent: Int[np.ndarray, " nnz"], token: Int[np.ndarray, " nnz"], value: Float[np.ndarray, " nnz"], latents: int, tokens: int) -> Entropies:
    """H = -sum_t p_t log p_t with p_t = T_t / T, T_t the sum of values on token t: log T - sum T_t log T_t / T."""
    total = summed(latent, value, latents)
    share = value / total[latent]
    logs = xlogy(share, token_sums(latent, token, value, tokens)) - share * np.log(total)[latent]  # value / T * log p_t
    entropy = -summed(latent, logs, latents)
    return Entropies(np.where(total > 0, entropy.clip(min=0), np.nan), -logs - share * entropy[latent])


@undefined
def token_purity(firings: Firings, weights: Float[np.ndarray, " documents"]) -> Scores:
    """1 - H / H_random of LEAST firings: H_random is the entropy of the same values on random rows, which weigh what their own documents do.

    Both are means over DRAWS draws of firings and of rows.
    """
    contexts, latents = firings.contexts, len(firings.names)
    entries, rows = rarefied(firings)
    drawn = np.repeat(np.arange(len(entries)), LEAST)
    latent, value, where = drawn % max(1, latents), firings.value[entries.ravel()], (firings.row[entries.ravel()], rows.ravel())
    documents = [contexts.document[row] for row in where]
    found = [
        entropies(drawn, contexts.token[row], value * weights[document], len(entries), contexts.tokens) for row, document in zip(where, documents, strict=True)
    ]
    own, random = (entropy.value.reshape(DRAWS, latents).mean(0) for entropy in found)
    ratio = np.where(random > 0, own / random, np.nan)  # a random latent on one token alone says nothing
    change = (-found[0].change / random[latent] / DRAWS, (ratio / random)[latent] * found[1].change / DRAWS)
    return Scores(1 - ratio, np.tile(latent, 2), np.concatenate(documents), np.concatenate(change), len(weights))


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
    return Cosines(mean_cosine(firings, run, run.with_itself, run.squares, weights), mean_cosine(firings, run, run.within, run.total**2, weights))


@undefined
def mean_cosine(
    firings: Firings, run: Run, own: Float[np.ndarray, " runs"], own_weight: Float[np.ndarray, " runs"], weights: Float[np.ndarray, " documents"]
) -> Scores:
    """With what is no pair taken off: of the vectors' products, and of those of the activations."""
    starts, latents = firings.runs[:-1], len(firings.names)
    latent = firings.latent[starts]
    total = summed(latent, run.total, latents)
    met, weight = run.along - own, run.total * total[latent] - own_weight
    pairs = summed(latent, weight, latents)
    mean = np.where(pairs > NOTHING_LEFT * total**2, summed(latent, met, latents) / pairs, np.nan)
    return Scores(mean, latent, firings.document[starts], 2 * (met - mean[latent] * weight) / pairs[latent], len(weights))


def random_pairs(contexts: Contexts, weights: Float[np.ndarray, " documents"]) -> tuple[Estimate, Estimate]:
    """The mean cosine of all such pairs of the sample: `cosines` of a latent that fires on every row alike."""
    rows = np.arange(len(contexts.document))
    nowhere = np.zeros(len(rows), dtype=np.int64)
    found = cosines(Firings(nowhere, rows, np.ones(len(rows)), nowhere, np.zeros(1, dtype=np.int64), contexts, rows), weights)
    return found.pairs.mean(), found.apart.mean()
