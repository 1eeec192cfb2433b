"""Holds a few rows of a representation, dense or sparse, and answers what comparing them needs: likenesses and products of pairs of rows."""

from abc import ABC, abstractmethod
from functools import cached_property

import numpy as np
import torch
from jaxtyping import Float
from scipy import sparse
from torch import Tensor

EQUAL = 1e-6  # what differs by less, relative to its size, is equal
AT_ONCE = 256  # features of the dense side that meet all latents at a time


class Representation(ABC):
    """Some rows. A row without any pattern correlates with nothing; if all rows are equal, all products are 0.

    Products are those of rows about their mean, in units of their mean square: neither moves CKA, and sums stay well-conditioned.
    """

    squares: Float[np.ndarray, " rows"]  # product of each row with itself
    plain: Float[np.ndarray, " rows"]  # likeness of each row to itself: 1, or 0 without a pattern

    def __len__(self) -> int:
        return len(self.squares)

    @abstractmethod
    def block(self, start: int, size: int) -> tuple[Float[Tensor, "block rest"], Float[Tensor, "block rest"]]:
        """Pearson correlations, and products, of `size` rows from `start` on with all rows from `start` on."""

    @abstractmethod
    def times(self, weights: Float[np.ndarray, "rows draws"]) -> Float[np.ndarray, "rows draws"]:
        """Products of different rows @ weights, in float64: what each row has with all others together."""

    @abstractmethod
    def crossed(self, other: "Dense", roll: int) -> tuple[float, float]:
        """Sums over all pairs of rows of both sides' correlations multiplied, and of both sides' products; `other`'s rows rolled."""

    @property
    @abstractmethod
    def total(self) -> float:
        """Sum of the correlations of all pairs of rows, each with itself too."""


class Dense(Representation):
    """Rows that hold a number for each feature."""

    def __init__(self, rows: Float[Tensor, "rows d"]) -> None:
        centred, norms = rows - rows.mean(1, keepdim=True), rows.norm(dim=1, keepdim=True)
        own = centred.norm(dim=1, keepdim=True)
        self.patterns = torch.where(own > EQUAL * norms, centred / own, 0.0)
        about = (rows.double() - rows.double().mean(0)).float()
        unit = about.norm() / len(rows) ** 0.5
        self.about = about / unit if unit > EQUAL * rows.norm() / len(rows) ** 0.5 else torch.zeros_like(about)
        self.squares, self.plain = (part.square().sum(1, dtype=torch.float64).numpy() for part in (self.about, self.patterns))

    def block(self, start: int, size: int) -> tuple[Float[Tensor, "block rest"], Float[Tensor, "block rest"]]:
        """Two products of matrices."""
        return self.patterns[start : start + size] @ self.patterns[start:].T, self.products(start, size)

    def products(self, start: int, size: int) -> Float[Tensor, "block rest"]:
        """The second part of `block`."""
        return self.about[start : start + size] @ self.about[start:].T

    @cached_property
    def precise(self) -> Float[np.ndarray, "rows d"]:
        """The rows about their mean in float64."""
        return np.asarray(self.about.double().numpy())

    def times(self, weights: Float[np.ndarray, "rows draws"]) -> Float[np.ndarray, "rows draws"]:
        """X (X^T w), less each row's product with itself."""
        return np.asarray(self.precise @ (self.precise.T @ weights) - self.squares[:, None] * weights)

    def crossed(self, other: "Dense", roll: int) -> tuple[float, float]:
        """sum (f_i . f_j) (g_i . g_j) = ||F^T G||^2."""
        pairs = (self.patterns, other.patterns), (self.about, other.about)
        correlations, products = (float((mine.T @ theirs.roll(roll, 0)).double().square().sum()) for mine, theirs in pairs)
        return correlations, products

    @property
    def total(self) -> float:
        """sum z_i . z_j = ||sum z||^2."""
        return float(self.patterns.double().sum(0).square().sum())


class Sparse(Representation):
    """Rows of mostly zeros, which are never written out: means are taken off the products instead."""

    def __init__(self, rows: sparse.csr_matrix, width: int) -> None:
        """`width`: the features that there are, fired or not; their zeros count in a row's mean."""
        rows = rows[:, np.unique(rows.indices)].astype(np.float64)  # of latents that never fire only the number matters
        norms, means = np.sqrt(total(rows.multiply(rows), 1)), total(rows, 1) / width
        deviation = np.sqrt(np.maximum(norms**2 - width * means**2, 0))
        inverse = np.divide(1, deviation, out=np.zeros_like(deviation), where=deviation > EQUAL * norms)
        centre = total(rows, 0) / rows.shape[0]
        unit = np.sqrt(max((norms**2).mean() - centre @ centre, 0.0))
        varies = unit > EQUAL * np.sqrt((norms**2).mean())
        self.width, self.scale = width, 1 / unit if varies else 0.0
        self.codes, self.inverse, self.means, self.centre = rows, inverse, means, centre
        self.single, self.shift, self.middle = rows.astype(np.float32), rows @ centre, float(centre @ centre)
        self.turned = self.single.T.tocsr()
        self.squares = self.scale**2 * (norms**2 - 2 * self.shift + self.middle)
        self.plain = (inverse > 0).astype(np.float64)

    def block(self, start: int, size: int) -> tuple[Float[Tensor, "block rest"], Float[Tensor, "block rest"]]:
        """One sparse product for both: c_i . c_j, less what the means add to it."""
        raw = torch.from_numpy((self.single[start : start + size] @ self.turned[:, start:]).toarray())
        inverse, means, shift = (torch.from_numpy(part[start:]).float() for part in (self.inverse, self.means, self.shift))
        correlations = (raw - self.width * torch.outer(means[:size], means)) * inverse[:size, None] * inverse
        return correlations, (raw - shift[:size, None] - (shift - self.middle)) * self.scale**2

    def times(self, weights: Float[np.ndarray, "rows draws"]) -> Float[np.ndarray, "rows draws"]:
        """X (X^T w) with the mean taken off both factors, less each row's product with itself."""
        drawn = self.codes.T @ weights - np.outer(self.centre, weights.sum(0))
        return np.asarray(self.scale**2 * (self.codes @ drawn - self.centre @ drawn) - self.squares[:, None] * weights)

    def crossed(self, other: Dense, roll: int) -> tuple[float, float]:
        """||F^T G||^2, some features of G at a time; latents that never fire have only their rows' means."""
        patterns, products, scaled = 0.0, 0.0, self.codes.multiply(self.inverse[:, None]).tocsr()
        for mine, about in zip(other.patterns.roll(roll, 0).double().split(AT_ONCE, 1), other.about.roll(roll, 0).double().split(AT_ONCE, 1), strict=True):
            off = (self.means * self.inverse) @ mine.numpy()
            patterns += float(np.square(scaled.T @ mine.numpy() - off).sum() + (self.width - scaled.shape[1]) * np.square(off).sum())
            products += float(np.square(self.scale * (self.codes.T @ about.numpy())).sum())  # the columns of `about` have mean 0
        return patterns, products

    @property
    def total(self) -> float:
        """||sum z||^2, of latents that fire and of those that never do."""
        scaled, off = self.codes.T @ self.inverse, float(self.means @ self.inverse)
        return float(np.square(scaled - off).sum() + (self.width - len(scaled)) * off**2)


def total(rows: sparse.csr_matrix, axis: int) -> Float[np.ndarray, " kept"]:
    """Sums over the rows (0) or the columns (1) of a sparse matrix."""
    return np.asarray(rows.sum(axis=axis), dtype=np.float64).reshape(-1)
