"""Compares two representations of the same rows, RSA and debiased linear CKA, for many draws of documents at once.

Both are sums over pairs of different rows, made in blocks: dissimilarities are kept to 16 bits and to one triangle, products of
rows are never kept. A row never meets itself, nor a copy of itself.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple, TypeAlias

import numpy as np
import torch
from jaxtyping import Float, Int, UInt16
from torch import Tensor

from sae_bench_htopk.contract import Missing
from sae_bench_htopk.draws import Draws, upper
from sae_bench_htopk.hsic import FLAT, cka, unbiased
from sae_bench_htopk.representations import Dense, Representation

BLOCK = 256  # rows that meet all later rows at a time
BINS = 2**16  # of dissimilarities; equal in their square roots, so that small ones are told apart better
no_weight_is_no_error = np.errstate(divide="ignore", invalid="ignore")  # such draws are answered by `too_few`
ROUNDING = 2.0**-20  # of a product of two unit vectors in float32, with room; taken off all alike, it moves no correlation
UNVARIED, UNVARYING = "every pair of rows is equally dissimilar", "one representation does not vary between rows"
Answers: TypeAlias = list[float | Missing]  # one for each draw


class Scale(NamedTuple):
    """What the bins of dissimilarities stand for: values about their mean, and midranks about theirs, as a share of all pairs."""

    mean: float
    ranks: Float[np.ndarray, " bins"]

    @classmethod
    def of(cls, counts: Int[np.ndarray, " bins"]) -> "Scale":
        """From the pairs in each bin."""
        pairs, values = counts.sum(), 2 * ((np.arange(BINS) + 0.5) / BINS) ** 2
        midranks = counts.cumsum() - counts + (counts + 1) / 2
        return cls(float(counts @ values / pairs), ((midranks - (pairs + 1) / 2) / pairs).astype(np.float32))

    def values(self, bins: UInt16[np.ndarray, "block rest"]) -> tuple[Float[Tensor, "block rest"], Float[Tensor, "block rest"]]:
        """Dissimilarities and their ranks, 0 where a row meets itself or an earlier one."""
        root = torch.from_numpy(bins.astype(np.float32)).add_(0.5)
        return upper(root.square_().mul_(2 / BINS**2).sub_(self.mean)), upper(torch.from_numpy(self.ranks.take(bins)))


def binned(correlations: Float[Tensor, "block rest"]) -> UInt16[np.ndarray, "block rest"]:
    """The bins of 1 - correlation, which lies from 0 to 2; what is no more than rounding is 0, so that equal rows are ties."""
    roots = correlations.mul(-0.5).add_(0.5 - ROUNDING).clamp_(min=0).sqrt_().mul_(BINS).clamp_(max=BINS - 1)
    roots[:, : len(roots)][torch.ones(len(roots), len(roots), dtype=torch.bool).tril()] = 0
    return roots.numpy().astype(np.uint16)


class Side:
    """One representation, and its sums over pairs of rows for all draws; beside another, whose rows are the same, the joint sums too."""

    def __init__(self, rows: Representation, draws: Draws, beside: "Side | None" = None) -> None:
        self.rows, self.draws, self.beside = rows, draws, beside
        none = np.zeros(draws.rows.shape[1])
        self.products, self.joint_products = (np.tile(none, (3, 1)) for _ in range(2))  # as `by_powers` has them
        self.values, self.ranks = ([none, none, none] for _ in range(2))  # sums of m, of m^2, and of m times the other side's
        self.bins: list[UInt16[np.ndarray, "block rest"]] = []
        counts = np.zeros(BINS, dtype=np.int64)
        for start in range(0, len(rows), BLOCK):
            counts += self.take_in(start)
        self.scale = Scale.of(counts)
        for number, start in enumerate(range(0, len(rows), BLOCK)):
            self.compare(number, start)
        self.met, self.met_squared = (rows.times(draws.rows**power) for power in (1, 2))

    def take_in(self, start: int) -> Int[np.ndarray, " bins"]:
        """Adds up a block's products, keeps the bins of its dissimilarities and counts its pairs in each."""
        correlations, products = self.rows.block(start, BLOCK)
        self.bins.append(binned(correlations))
        products = upper(products)
        self.products += self.draws.by_powers(products.square(), start)
        if self.beside is not None and isinstance(self.beside.rows, Dense):
            self.joint_products += self.draws.by_powers(products * self.beside.rows.products(start, BLOCK), start)
        counts = np.bincount(self.bins[-1].ravel(), minlength=BINS)
        counts[0] -= len(products) * (len(products) + 1) // 2  # the pairs that are none
        return counts

    def compare(self, number: int, start: int) -> None:
        """Adds up a block's dissimilarities and ranks, their squares, and their products with those of the other side."""
        others = self.beside.scale.values(self.beside.bins[number]) if self.beside else (None, None)
        for sums, own, other in zip((self.values, self.ranks), self.scale.values(self.bins[number]), others, strict=True):
            parts = (own, own.square()) if other is None else (own, own.square(), own * other)
            for place, part in enumerate(parts):
                sums[place] = sums[place] + self.draws.by_pair(part, start)

    @no_weight_is_no_error
    def variance(self, sums: Sequence[Float[np.ndarray, " draws"]]) -> Float[np.ndarray, " draws"]:
        """Of dissimilarities, or of ranks."""
        return np.asarray(sums[1] / self.draws.pairs - (sums[0] / self.draws.pairs) ** 2)

    @no_weight_is_no_error
    def met_by(self, other: "Side", sums: Float[np.ndarray, "3 draws"]) -> Float[np.ndarray, " draws"]:
        """The unbiased HSIC: the mean over all i, j, q, r that differ of K_ij L_ij + K_ij L_qr - 2 K_ij L_iq, counted by w_i w_j w_q w_r.

        Song et al. 2012. Each sum over indices that differ is the full sum less its terms with equal indices, of which many cancel
        here. One normaliser for all three: with one for each, unequal weights would let the value depend on where the origin of the
        activations lies.
        """
        w, (p1, p2, p3, p4), (once, twice, squares) = self.draws.rows, self.draws.moments, sums
        both = self.met * other.met
        crossed = (w * (self.met * other.met_squared + self.met_squared * other.met)).sum(0)
        joint = (p1**2 - p2) * once - 2 * p1 * twice + 2 * squares
        apart = (w * self.met).sum(0) * (w * other.met).sum(0) - 2 * p1 * (w * both).sum(0) - 2 * (w**2 * both).sum(0) + 2 * crossed
        return np.asarray((joint + apart) / (p1**4 - 6 * p1**2 * p2 + 3 * p2**2 + 8 * p1 * p3 - 6 * p4))


def ratio(both: float, one: float, other: float, flat: str) -> float | Missing:
    """both / sqrt(one * other), or `flat` if either is no more than rounding."""
    return Missing(flat) if min(one, other) <= FLAT else float(both / math.sqrt(one * other))


class Similarity:
    """How alike one side is to x: each measure for all draws, or once over the sample where no draw can be made of it."""

    def __init__(self, x: Side, other: Side) -> None:
        """`other` was summed beside `x`."""
        self.x, self.other, self.draws = x, other, x.draws
        self.few = x.draws.too_few()

    def answers(self, both: Float[np.ndarray, " draws"], one: Float[np.ndarray, " draws"], other: Float[np.ndarray, " draws"], flat: str) -> Answers:
        """both / sqrt(one * other), or why not."""
        found: Answers = []
        for few, top, left, right in zip(self.few, both.tolist(), one.tolist(), other.tolist(), strict=True):
            found.append(few or ratio(top, left, right, flat))
        return found

    @no_weight_is_no_error
    def rsa(self) -> tuple[Answers, Answers]:
        """Correlation of both sides' dissimilarities over pairs of different rows (Kriegeskorte et al. 2008), and of their midranks.

        Midranks are those among the pairs of the sample, each counted once, whatever the weights.
        """
        pairs = self.draws.pairs
        found = []
        for mine, theirs in ((self.x.values, self.other.values), (self.x.ranks, self.other.ranks)):
            both = theirs[2] / pairs - mine[0] * theirs[0] / pairs**2
            found.append(self.answers(both, self.x.variance(mine), self.other.variance(theirs), UNVARIED))
        return found[0], found[1]

    def cka(self) -> Answers:
        """Debiased linear CKA (Kornblith et al. 2019 with the HSIC of Song et al. 2012): 0 on average for independent rows."""
        both, one, other = (one.met_by(other, sums) for one, other, sums in self.hsics())
        return self.answers(both, one, other, UNVARYING)

    def hsics(self) -> tuple[tuple[Side, Side, Float[np.ndarray, "3 draws"]], ...]:
        """What makes the three HSICs of a CKA: x with the other, and each with itself."""
        return (self.x, self.other, self.other.joint_products), (self.x, self.x, self.x.products), (self.other, self.other, self.other.products)

    def biased(self) -> float | Missing:
        """Linear CKA with pairs of a row with itself (Kornblith et al. 2019), every row once."""
        sums = (float(sums[0, 0] + one.rows.squares @ other.rows.squares) for one, other, sums in self.hsics())
        return cka(*sums)

    def null(self) -> tuple[float | Missing, float | Missing]:
        """RSA and debiased CKA, every row once, of each row and the other side's row half the sample away."""
        n, x, other = len(self.x.rows), self.x.rows, self.other.rows
        assert isinstance(x, Dense)
        correlations, products = other.crossed(x, roll := n // 2)
        pairs, rolled = n * (n - 1), np.roll(x.squares, roll)
        joint = (correlations - other.plain @ np.roll(x.plain, roll)) / pairs - (x.total - x.plain.sum()) * (other.total - other.plain.sum()) / pairs**2
        hsic = unbiased(n, products, rolled @ other.squares, x.squares.sum(), other.squares.sum())
        (_, one, two), (mine, theirs) = self.hsics(), (float(side.variance(side.values)[0]) for side in (self.x, self.other))
        own = [float(side.met_by(again, sums)[0]) for side, again, sums in (one, two)]
        return self.once(joint, mine, theirs, UNVARIED), self.once(hsic, own[0], own[1], UNVARYING)

    def once(self, both: float, one: float, other: float, flat: str) -> float | Missing:
        """The same for one number, every row once."""
        return self.few[0] or ratio(both, one, other, flat)
