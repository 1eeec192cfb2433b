"""Every latent that fires often enough in a sample, where it fires, and means over such latents with what each document adds to them."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from jaxtyping import Bool, Float, Int

from sae_bench_htopk import ops
from sae_bench_htopk.contexts import Contexts
from sae_bench_htopk.sample import SampledCodes

LEAST = 10  # firings in the sample: of fewer nothing can be said
DIGITS = 6  # of what is kept among the details


def summed(place: Int[np.ndarray, " entries"], value: Float[np.ndarray, " entries"], places: int) -> Float[np.ndarray, " places"]:
    """The sum of the values at each place; 0.0 also where there is no entry at all, of which numpy makes integers."""
    return np.asarray(np.bincount(place, value, places), dtype=np.float64)


@dataclass(frozen=True)
class Firings:
    """Where latents fire: entries by latent, then by document, then by row. `rank` is the code's place in its row, from 0."""

    latent: Int[np.ndarray, " nnz"]  # numbered from 0 among those in `names`
    row: Int[np.ndarray, " nnz"]  # of the contexts
    value: Float[np.ndarray, " nnz"]
    rank: Int[np.ndarray, " nnz"]
    names: Int[np.ndarray, " latents"]  # the latents' places in the dictionary, ascending
    contexts: Contexts
    everywhere: Int[np.ndarray, " firings"]  # where latents fire at all: place in the dictionary times number of contexts, plus row; ascending

    @classmethod
    def of(cls, codes: SampledCodes, contexts: Contexts) -> "Firings":
        """Of all latents that fire. A latent fires where its code is above 0: the negative half of a signed one (PCA) is another direction."""
        values, latents, rows = codes.codes.values.numpy(), codes.codes.latents.numpy(), ops.owners(codes.codes.offsets).numpy()
        fires, rank = values > 0, codes.ranks
        latents, rows = latents[fires].astype(np.int64), contexts.place[rows[fires]]
        key = latents * len(contexts.place) + rows
        order = key.argsort()
        names, latent = np.unique(latents[order], return_inverse=True)
        return cls(latent, rows[order], values[fires][order].astype(np.float64), rank[fires][order].astype(np.int64), names, contexts, key[order])

    def only(self, kept: Bool[np.ndarray, " nnz"]) -> "Firings":
        """Some of the entries, of the latents that have any left."""
        numbers, latent = np.unique(self.latent[kept], return_inverse=True)
        return Firings(latent, self.row[kept], self.value[kept], self.rank[kept], self.names[numbers], self.contexts, self.everywhere)

    def judged(self) -> "Firings":
        """Of the latents that fire at least LEAST times."""
        return self.only((self.counts >= LEAST)[self.latent])

    @cached_property
    def counts(self) -> Int[np.ndarray, " latents"]:
        """How often each latent fires."""
        return np.bincount(self.latent, minlength=len(self.names))

    @cached_property
    def document(self) -> Int[np.ndarray, " nnz"]:
        """Each entry's document."""
        return np.take(self.contexts.document, self.row)

    @cached_property
    def runs(self) -> Int[np.ndarray, " ends"]:
        """Where the entries of one latent in one document begin, and the end of the last."""
        if not len(self.latent):
            return np.zeros(1, dtype=np.int64)
        new = (np.diff(self.latent) != 0) | (np.diff(self.document) != 0)
        return np.concatenate(([0], np.flatnonzero(new) + 1, [len(self.latent)]))


@dataclass(frozen=True)
class Estimate:
    """A number, and how it moves with each document's weight: its derivative to the logarithm of the weight, which is the influence at weight 1."""

    value: float  # NaN: there is none
    change: Float[np.ndarray, " documents"]

    def __sub__(self, other: "Estimate") -> "Estimate":
        return Estimate(self.value - other.value, self.change - other.change)

    def rest(self) -> "Estimate":
        """What is left of 1."""
        return Estimate(1 - self.value, -self.change)

    def over(self, other: "Estimate") -> "Estimate":
        """Their ratio; none where the other is 0."""
        if not other.value:
            return Estimate(np.nan, np.zeros_like(self.change))
        return Estimate(self.value / other.value, (self.change - self.value / other.value * other.change) / other.value)

    def under(self, draws: Float[np.ndarray, "draws documents"]) -> Float[np.ndarray, " draws"]:
        """Under other weights, to first order (the infinitesimal jackknife), if this one is that of weights 1.

        An exact number would need every sum over firings anew for each draw: seconds where this takes milliseconds. It is also centred
        on the estimate, as copies of a document make no pairs here: they are more alike than any two documents.
        """
        return np.asarray(self.value + (draws / draws.mean(1, keepdims=True) - 1) @ self.change)

    def told(self, draws: Float[np.ndarray, "draws documents"] | None) -> dict[str, object] | None:
        """For the details: the value and, if documents were drawn, between which numbers 95% of the draws lie; None if there is none."""
        if not np.isfinite(self.value):
            return None
        spread = {} if draws is None else {"interval": np.quantile(self.under(draws), [0.025, 0.975]).round(DIGITS).tolist()}
        return {"value": round(self.value, DIGITS), **spread}


@dataclass(frozen=True)
class Scores:
    """One number for each latent, NaN where it has none, and what moves it: entries of (latent, document, change with the document's log weight)."""

    value: Float[np.ndarray, " latents"]
    latent: Int[np.ndarray, " entries"]
    document: Int[np.ndarray, " entries"]
    change: Float[np.ndarray, " entries"]
    documents: int

    def mean(self, share: Float[np.ndarray, " latents"] | None = None) -> Estimate:
        """Over the latents that have a number: all alike, or by shares that documents do not move."""
        known = np.isfinite(self.value)
        share = np.where(known, 1.0 if share is None else share, 0.0)
        if not (total := share.sum()) > 0:
            return Estimate(np.nan, np.zeros(self.documents))
        share = share / total
        moved = np.where(share[self.latent] > 0, share[self.latent] * self.change, 0.0)
        return Estimate(float(share @ np.where(known, self.value, 0.0)), summed(self.document, moved, self.documents))

    def mean_by_firing(self, firings: Firings, weights: Float[np.ndarray, " documents"]) -> Estimate:
        """By how often each latent fires, which documents move, too."""
        weight = weights[firings.document]
        often = summed(firings.latent, weight, len(self.value))
        plain = self.mean(often)
        if np.isnan(plain.value):
            return plain
        known = np.isfinite(self.value)
        above = np.where(known, self.value - plain.value, 0.0) / often[known].sum()
        return Estimate(plain.value, plain.change + summed(firings.document, weight * above[firings.latent], self.documents))
