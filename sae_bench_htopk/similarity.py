"""Compares two representations of the same rows: RSA and debiased linear CKA, with every document counted as often as one likes.

Weights belong to documents and count their rows; a row never meets itself, nor a copy of itself. Both measures are then sums
over pairs of rows, which are added up by pairs of documents once: a new set of weights costs documents^2, not rows^2.
"""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from sae_bench_htopk.contract import Missing

MIN_ROWS = 4  # the unbiased HSIC is a mean over quadruples of different rows
FLAT = 1e-12  # a variance of dissimilarities below it is rounding: float32 products are good to about 1e-7
EQUAL = 1e-6  # what differs by less, relative to its size, is equal


@dataclass(frozen=True)
class Grouping:
    """Which rows belong to which document, once the rows are sorted by document."""

    documents: Int[np.ndarray, " groups"]
    starts: Int[np.ndarray, " groups"]
    order: Int[np.ndarray, " rows"]

    @classmethod
    def of(cls, document: Int[np.ndarray, " rows"]) -> "Grouping":
        """The grouping of rows by their document; it keeps the rows' order within each."""
        order = document.argsort(kind="stable")
        documents, starts = np.unique(document[order], return_index=True)
        return cls(documents, starts, order)

    def weights(self, of_documents: Float[np.ndarray, " documents"] | None) -> Float[np.ndarray, " groups"]:
        """The weight of each group, 1 if there are none."""
        return np.ones(len(self.documents)) if of_documents is None else of_documents[self.documents]

    def lengths(self) -> Int[np.ndarray, " groups"]:
        """Rows of each group."""
        return np.diff(self.starts, append=len(self.order))

    def moments(self, weights: Float[np.ndarray, " groups"]) -> list[float]:
        """Sums over rows of weight^1, ^2, ^3, ^4."""
        return [float(self.lengths() @ weights**power) for power in (1, 2, 3, 4)]

    def too_few(self, weights: Float[np.ndarray, " groups"]) -> Missing | None:
        """The reason if fewer than four different rows have any weight."""
        rows = int(self.lengths()[weights > 0].sum())
        return Missing(f"{rows} rows with any weight, wanted at least {MIN_ROWS}") if rows < MIN_ROWS else None

    def by_row(self, matrix: Float[np.ndarray, "rows rows"]) -> Float[np.ndarray, "rows groups"]:
        """Sums over the columns of each document, in float64."""
        return np.add.reduceat(matrix, self.starts, axis=1, dtype=np.float64)

    def by_pair(self, matrix: Float[np.ndarray, "rows rows"]) -> Float[np.ndarray, "groups groups"]:
        """Sums over the rows and columns of each pair of documents, in float64."""
        return np.add.reduceat(self.by_row(matrix), self.starts, axis=0)


def off_diagonal(matrix: Float[Tensor, "rows rows"], shift: float = 0.0) -> Float[np.ndarray, "rows rows"]:
    """The matrix less a constant, its diagonal 0."""
    return matrix.sub(shift).fill_diagonal_(0.0).numpy()


def dissimilarity(rows: Float[Tensor, "rows d"]) -> Float[Tensor, "rows rows"]:
    """1 - Pearson correlation of each pair of rows; a row without any pattern correlates with nothing."""
    centred = rows - rows.mean(1, keepdim=True)
    norms, patterned = centred.norm(dim=1, keepdim=True), centred.norm(dim=1, keepdim=True) > EQUAL * rows.norm(dim=1, keepdim=True)
    centred = torch.where(patterned, centred / norms, 0.0)
    return torch.mm(centred, centred.T).mul_(-1).add_(1)


def gram(rows: Float[Tensor, "rows d"]) -> Float[Tensor, "rows rows"]:
    """Products of each pair of rows about their mean, in units of their mean square; all 0 if the rows are equal.

    Neither mean nor unit changes the debiased CKA; they keep its sums well-conditioned.
    """
    centred = rows - rows.mean(0)
    unit = centred.norm() / len(rows) ** 0.5
    if unit <= EQUAL * rows.norm() / len(rows) ** 0.5:
        return rows.new_zeros(len(rows), len(rows))
    centred = centred / unit
    return torch.mm(centred, centred.T)


def quadratic(left: Float[np.ndarray, " groups"], sums: Float[np.ndarray, "groups groups"], right: Float[np.ndarray, " groups"]) -> float:
    """left . sums . right."""
    return float(left @ sums @ right)


@dataclass(frozen=True)
class Rsa:
    """Pearson correlation of two dissimilarity matrices over pairs of different rows (Kriegeskorte et al. 2008)."""

    grouping: Grouping
    sums: tuple[Float[np.ndarray, "groups groups"], ...]  # of a, b, aa, bb and ab

    @classmethod
    def of(cls, grouping: Grouping, one: Float[Tensor, "rows rows"], other: Float[Tensor, "rows rows"]) -> "Rsa":
        """Of two dissimilarity matrices whose rows are sorted as `grouping` says."""
        a, b = (off_diagonal(matrix, float(matrix.mean())) for matrix in (one, other))
        return cls(grouping, tuple(grouping.by_pair(product) for product in (a, b, a * a, b * b, a * b)))

    def __call__(self, of_documents: Float[np.ndarray, " documents"] | None) -> float | Missing:
        """The correlation, each pair of rows counted by the product of its documents' weights."""
        weights = self.grouping.weights(of_documents)
        if reason := self.grouping.too_few(weights):
            return reason
        first, second, *_ = self.grouping.moments(weights)
        a, b, aa, bb, ab = (quadratic(weights, matrix, weights) / (first**2 - second) for matrix in self.sums)
        if min(aa - a * a, bb - b * b) <= FLAT:
            return Missing("every pair of rows is equally dissimilar")
        return float((ab - a * b) / np.sqrt((aa - a * a) * (bb - b * b)))


@dataclass(frozen=True)
class Kernels:
    """One product of two Gram matrices K and L: what the unbiased HSIC needs of it, by document."""

    K: Float[np.ndarray, "rows groups"]  # sums of K over the columns of each document
    L: Float[np.ndarray, "rows groups"]
    KL: Float[np.ndarray, "groups groups"]  # sums of K_ij L_ij

    def hsic(self, grouping: Grouping, w: Float[np.ndarray, " groups"]) -> float:
        """Mean over all i, j, q, r that differ of K_ij L_ij + K_ij L_qr - 2 K_ij L_iq (Song et al. 2012), counted by w_i w_j w_q w_r.

        Each sum over indices that differ is the full sum less its terms with equal indices. One normaliser for all three: with
        one for each, unequal weights would let the value depend on where the origin of the activations lies.
        """
        p1, p2, p3, p4 = grouping.moments(w)
        row, of_K, of_L = np.repeat(w, grouping.lengths()), self.K @ w, self.L @ w
        inner = np.add.reduceat(of_K * of_L, grouping.starts)
        crossed = np.add.reduceat(of_K * (self.L @ w**2) + (self.K @ w**2) * of_L, grouping.starts)
        once, twice, thrice, squares = (quadratic(left, self.KL, right) for left, right in ((w, w), (w**2, w), (w**3, w), (w**2, w**2)))
        pairs = (p1**2 - p2) * once - 4 * p1 * twice + 4 * thrice + 2 * squares
        triples = p1 * (w @ inner - twice) - (w**2 @ inner - squares) - (w @ crossed - 2 * thrice)
        quadruples = (row @ of_K) * (row @ of_L) - 4 * w**2 @ inner + 2 * squares
        return float((pairs + quadruples - 2 * triples) / (p1**4 - 6 * p1**2 * p2 + 3 * p2**2 + 8 * p1 * p3 - 6 * p4))


@dataclass(frozen=True)
class Cka:
    """Debiased linear CKA (Kornblith et al. 2019 with the unbiased HSIC of Song et al. 2012): 0 on average for independent rows."""

    grouping: Grouping
    kernels: tuple[Kernels, Kernels, Kernels]  # K with L, K with K, L with L

    @classmethod
    def of(cls, grouping: Grouping, one: Float[Tensor, "rows rows"], other: Float[Tensor, "rows rows"]) -> "Cka":
        """Of two Gram matrices whose rows are sorted as `grouping` says."""
        K, L = off_diagonal(one), off_diagonal(other)
        of_K, of_L = grouping.by_row(K), grouping.by_row(L)
        both = Kernels(of_K, of_L, grouping.by_pair(K * L))
        return cls(grouping, (both, Kernels(of_K, of_K, grouping.by_pair(K * K)), Kernels(of_L, of_L, grouping.by_pair(L * L))))

    def __call__(self, of_documents: Float[np.ndarray, " documents"] | None) -> float | Missing:
        """The similarity, each quadruple of different rows counted by the product of its documents' weights."""
        weights = self.grouping.weights(of_documents)
        if reason := self.grouping.too_few(weights):
            return reason
        both, one, other = (kernels.hsic(self.grouping, weights) for kernels in self.kernels)
        if min(one, other) <= FLAT:
            return Missing("one representation does not vary between rows")
        return float(both / np.sqrt(one * other))
