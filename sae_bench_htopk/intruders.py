"""Intruder detection by vectors: of five contexts a latent fires in four, and the one that is least like the others should be the fifth."""

from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from sae_bench_htopk.census import Firings, Scores, summed

SHOWN = 4  # contexts in which the latent fires, beside one in which it does not: chance is 1 / 5
TRIALS = 4  # for each latent
TRIES = 200  # draws of five rows before a latent is left out: one that fires in fewer than four documents, or hardly in more, is not asked
BLOCK = 2**19  # numbers of vectors compared at a time
TIE = 1e-5  # of sums of four cosines in float32


class Trials(NamedTuple):
    """Rows of five contexts, the intruder last, and the latent that is asked."""

    latent: Int[np.ndarray, " trials"]
    rows: Int[np.ndarray, "trials five"]


def draw(random: np.random.Generator, firings: Firings, latent: Int[np.ndarray, " trials"]) -> Int[np.ndarray, "trials five"]:
    """Four firings of each latent and any row, all at random."""
    first = firings.counts.cumsum() - firings.counts
    shown = first[latent][:, None] + random.integers(firings.counts[latent][:, None], size=(len(latent), SHOWN))
    return np.column_stack((firings.row[shown], random.integers(len(firings.contexts.document), size=len(latent))))


def fair(firings: Firings, latent: Int[np.ndarray, " trials"], rows: Int[np.ndarray, "trials five"]) -> Bool[np.ndarray, " trials"]:
    """Whether all five are of different documents, and the latent is silent on the last, also at ranks that are not looked at."""
    document = np.sort(firings.contexts.document[rows], axis=1)
    key = firings.names[latent] * len(firings.contexts.document) + rows[:, -1]
    everywhere = firings.everywhere
    fires = everywhere[np.searchsorted(everywhere, key).clip(max=len(everywhere) - 1)] == key
    return np.asarray((np.diff(document, axis=1) > 0).all(1) & ~fires)


def trials(firings: Firings) -> Trials:
    """TRIALS for each latent, by a fixed seed.

    All five rows are drawn anew until they are fair. Drawn alike, they are nearly exchangeable if a latent fires without regard to the text,
    which makes chance about one in five: with documents drawn alike and the intruder among all rows, long documents would give it away. Where one
    document is half of all rows it is less, since a latent of few firings needs it for its four: `by_chance` measures it.
    """
    random, latent = np.random.default_rng(0), np.repeat(np.arange(len(firings.names)), TRIALS)
    rows, wanting = np.zeros((len(latent), SHOWN + 1), dtype=np.int64), np.arange(len(latent))
    for _ in range(TRIES):
        if not len(wanting):
            break
        drawn = draw(random, firings, latent[wanting])
        good = fair(firings, latent[wanting], drawn)
        rows[wanting[good]], wanting = drawn[good], wanting[~good]
    found = ~np.isin(latent, latent[wanting])
    return Trials(latent[found], rows[found])


def by_chance(firings: Firings) -> Firings:
    """The same latents on random rows, each as often as before and on none twice: two fixed shuffles with a random shift for each latent between them."""
    random, size = np.random.default_rng(0), len(firings.contexts.document)
    first, second, shift = random.permutation(size), random.permutation(size), random.integers(max(1, size), size=int(firings.names.max(initial=-1)) + 1)
    row = second[(first[firings.row] + shift[firings.names][firings.latent]) % size]
    key = firings.names[firings.latent] * size + row
    order = key.argsort()
    return Firings(firings.latent[order], row[order], firings.value[order], firings.rank[order], firings.names, firings.contexts, key[order])


def right(vectors: Float[Tensor, "rows width"], rows: Int[np.ndarray, "trials five"]) -> Float[np.ndarray, " trials"]:
    """1 where the intruder is the context of the smallest mean cosine to the other four; where several are, its chance among them."""
    answers, step = np.empty(len(rows)), max(1, BLOCK // (rows.shape[1] * vectors.shape[1]))
    for start in range(0, len(rows), step):
        part = slice(start, start + step)
        five = vectors[torch.from_numpy(rows[part])]
        cosines = torch.linalg.vecdot(five, five.sum(1, keepdim=True) - five)  # the sum of those to the other four
        least = cosines <= cosines.min(1, keepdim=True).values + TIE
        answers[part] = (least[:, -1].double() / least.sum(1)).numpy()
    return answers


def told_apart(firings: Firings, weights: Float[np.ndarray, " documents"]) -> Scores:
    """Each latent's share of trials that are right; a trial counts by the product of its five documents' weights, and every one of the five moves it."""
    assert firings.contexts.vectors is not None
    latent, rows = trials(firings)
    document = firings.contexts.document[rows]
    weight, answers = weights[document].prod(1), right(firings.contexts.vectors, rows)
    with np.errstate(invalid="ignore"):
        total = summed(latent, weight, len(firings.names))
        share = summed(latent, weight * answers, len(firings.names)) / total
        change = weight * (answers - share[latent]) / total[latent]
    return Scores(share, np.repeat(latent, SHOWN + 1), document.ravel(), np.repeat(change, SHOWN + 1), len(weights))
