"""Intruder detection by vectors: of five contexts a latent fires in four, and the one that is least like the others should be the fifth."""

from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from sae_bench_htopk.census import Firings, Scores, summed

SHOWN = 4  # contexts in which the latent fires, beside one in which it does not: chance is 1 / 5
TRIALS = 4  # for each latent
TRIES = 100  # rows drawn for an intruder before the trial is left out; in the second half it may share a document
BLOCK = 2**19  # numbers of vectors compared at a time
TIE = 1e-5  # of sums of four cosines in float32


class Trials(NamedTuple):
    """Rows of five contexts, the intruder last, and the latent that is asked."""

    latent: Int[np.ndarray, " trials"]
    rows: Int[np.ndarray, "trials five"]


def distinct(random: np.random.Generator, of: Int[np.ndarray, " trials"], count: int) -> Int[np.ndarray, "trials count"]:
    """`count` different numbers below each of `of`, in random order; there must be so many."""
    drawn = np.empty((len(of), 0), dtype=np.int64)
    for taken in range(count):
        number = random.integers(of - taken)  # among those not yet drawn
        for earlier in np.sort(drawn, axis=1).T:
            number = number + (number >= earlier)
        drawn = np.column_stack((drawn, number))
    return drawn


def shown(random: np.random.Generator, firings: Firings, latent: Int[np.ndarray, " trials"]) -> Int[np.ndarray, "trials shown"]:
    """Entries at random, one for each of four documents at random; of a latent that fires in fewer documents, of all its entries alike."""
    runs, counts = firings.runs, firings.counts
    documents = np.bincount(firings.latent[runs[:-1]], minlength=len(counts))
    first_run, first_entry = documents.cumsum() - documents, counts.cumsum() - counts
    spread = documents[latent] >= SHOWN
    run = first_run[latent][:, None] + distinct(random, np.where(spread, documents[latent], SHOWN), SHOWN)
    run = np.where(spread[:, None], run, 0)
    in_run = runs[run] + random.integers(runs[run + 1] - runs[run])
    return np.asarray(np.where(spread[:, None], in_run, first_entry[latent][:, None] + distinct(random, counts[latent], SHOWN)))


def intruders(
    random: np.random.Generator, firings: Firings, latent: Int[np.ndarray, " trials"], rows: Int[np.ndarray, "trials shown"]
) -> tuple[Int[np.ndarray, " trials"], Bool[np.ndarray, " trials"]]:
    """A row on which the latent does not fire, of none of these documents where there is one, and whether it was found."""
    document = firings.contexts.document
    size, found, wanting = len(document), np.zeros(len(latent), dtype=np.int64), np.arange(len(latent))
    fires = firings.latent * size + firings.row
    for tried in range(TRIES):
        row = random.integers(size, size=len(wanting))
        key = latent[wanting] * size + row
        bad = fires[np.searchsorted(fires, key).clip(max=len(fires) - 1)] == key
        if tried < TRIES // 2:
            bad |= (document[row][:, None] == document[rows[wanting]]).any(1)
        found[wanting[~bad]], wanting = row[~bad], wanting[bad]
        if not len(wanting):
            break
    return found, ~np.isin(np.arange(len(latent)), wanting)


def trials(firings: Firings) -> Trials:
    """TRIALS for each latent, by a fixed seed."""
    random, latent = np.random.default_rng(0), np.repeat(np.arange(len(firings.names)), TRIALS)
    if not len(latent):
        return Trials(latent, np.empty((0, SHOWN + 1), dtype=np.int64))
    rows = firings.row[shown(random, firings, latent)]
    intruder, found = intruders(random, firings, latent, rows)
    return Trials(latent[found], np.column_stack((rows, intruder))[found])


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
    """Each latent's share of trials that are right; a trial counts by the weight of the document of the first context shown."""
    assert firings.contexts.vectors is not None
    latent, rows = trials(firings)
    document = firings.contexts.document[rows[:, 0]]
    weight, answers = weights[document], right(firings.contexts.vectors, rows)
    with np.errstate(invalid="ignore"):
        total = summed(latent, weight, len(firings.names))
        share = summed(latent, weight * answers, len(firings.names)) / total
        return Scores(share, latent, document, weight * (answers - share[latent]) / total[latent], len(weights))
