"""Linear CKA over all rows of text, from sums that a stream of batches adds up; no matrix of rows by rows is made."""

import math
from functools import lru_cache
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from sae_bench_htopk.contract import Missing

MIN_ROWS = 4  # the unbiased HSIC is a mean over quadruples of different rows
FLAT = 1e-12  # relative to the mean square: a variation below it is rounding
AT_ONCE = 4096  # rows whose products are added up in float32, before the sum in float64


def unbiased(rows: int, square: float, crossed: float, one: float, other: float) -> float:
    """The unbiased HSIC of linear kernels (Song et al. 2012, equation 5), from features U and V whose columns have mean 0.

    square = ||U^T V||^2; crossed, one and other: sums over rows of |u|^2 |v|^2, of |u|^2 and of |v|^2.
    """
    return (square - rows / (rows - 2) * crossed + one * other / ((rows - 1) * (rows - 2))) / (rows * (rows - 3))


class Hsic(NamedTuple):
    """The dependence of two sides by two estimates: too high for few rows, and right on average."""

    biased: float
    debiased: float


def cka(both: float, one: float, other: float) -> float | Missing:
    """both / sqrt(one * other), if neither is 0 or, as an unbiased estimate may be, below."""
    if min(one, other) <= 0:
        return Missing("one representation does not vary between rows")
    return both / math.sqrt(one * other)


class Moments(NamedTuple):
    """A constant near a representation's mean, and the sums of products of its rows about it."""

    about: Float[Tensor, " d"]
    sums: Float[Tensor, "wide also_wide"]

    def varies(self) -> bool:
        """Whether its variance is more than rounding."""
        n, firsts, squares = float(self.sums[-1, -1]), self.sums[-1, :-2], float(self.sums[-1, -2])
        mean = firsts / n
        return squares / n - float(mean @ mean) > FLAT * float((self.about + mean).square().sum())


def widened(rows: Float[Tensor, "rows d"], about: Float[Tensor, " d"]) -> Float[Tensor, "rows wide"]:
    """Each row about a constant, and after it its squared norm and 1: products of such rows hold every moment that HSIC needs."""
    centred = rows.float() - about
    return torch.cat((centred, centred.square().sum(1, keepdim=True), torch.ones_like(centred[:, :1])), dim=1)


def product(one: Float[Tensor, "rows n"], other: Float[Tensor, "rows m"]) -> Float[Tensor, "n m"]:
    """one^T other, summed in float64."""
    total = torch.zeros(one.shape[1], other.shape[1], dtype=torch.float64, device=one.device)
    for left, right in zip(one.split(AT_ONCE), other.split(AT_ONCE), strict=True):
        total += left.T @ right
    return total


def extended(before: Moments | None, rows: Float[Tensor, "rows d"]) -> tuple[Moments, Float[Tensor, "rows wide"]]:
    """The moments after some more rows, and those rows widened.

    The constant is the first rows' mean: it drops out, but without it every sum would be a small difference of large ones.
    """
    wide = widened(rows, about := rows.double().mean(0).float() if before is None else before.about)
    sums = product(wide, wide)
    return Moments(about, sums if before is None else before.sums + sums), wide


@lru_cache(maxsize=2)
def extended_by_plain(before: Moments | None, x: Float[Tensor, "rows d"], massive: Bool[Tensor, " rows"]) -> tuple[Moments, Float[Tensor, "plain wide"]]:
    """The same, of rows that are not massive. Remembered by identity: SAEs that see the same text share these."""
    return extended(before, x[~massive])


def hsic(sums: Float[Tensor, "wide also_wide"]) -> Hsic:
    """Both estimates from the products of widened rows, as means over pairs (biased) and quadruples (debiased) of rows.

    Norms must be about the mean, d and e away from the constants:
    sum |u - d|^2 |v - e|^2 = sum (A - 2 d.u + |d|^2) (B - 2 e.v + |e|^2), with A and B the norms that were summed.
    """
    n, (A, B), (u, v) = float(sums[-1, -1]), (float(sums[-2, -1]), float(sums[-1, -2])), (sums[:-2, -1], sums[-1, :-2])
    M, d, e = sums[:-2, :-2], u / n, v / n
    dd, ee = float(d @ d), float(e @ e)
    crossed = float(sums[-2, -2] - 2 * sums[-2, :-2] @ e - 2 * d @ sums[:-2, -2] + 4 * d @ M @ e) + ee * A + dd * B - 3 * n * dd * ee
    square = float((M - n * torch.outer(d, e)).square().sum())
    return Hsic(square / n**2, unbiased(round(n), square, crossed, A - n * dd, B - n * ee))


class Streamed:
    """The linear CKA of x and one reconstruction over all rows seen: Kornblith et al. 2019, and with the unbiased HSIC."""

    def __init__(self) -> None:
        self.x: Moments | None = None
        self.x_hat: Moments | None = None
        self.sums: Float[Tensor, "wide also_wide"] | None = None

    def add(self, x: Float[Tensor, "rows d"], x_hat: Float[Tensor, "rows d"], massive: Bool[Tensor, " rows"]) -> None:
        """Takes in some rows; massive ones are left out."""
        if bool(massive.all()):
            return
        self.x, wide = extended_by_plain(self.x, x, massive)
        self.x_hat, other = extended(self.x_hat, x_hat[~massive])
        both = product(wide, other)
        self.sums = both if self.sums is None else self.sums + both

    def similarity(self) -> tuple[float | Missing, float | Missing]:
        """Debiased and biased CKA."""
        rows = 0 if self.sums is None else round(float(self.sums[-1, -1]))
        if self.x is None or self.x_hat is None or self.sums is None or rows < MIN_ROWS:
            return (few := Missing(f"{rows} rows of held-out text, wanted at least {MIN_ROWS}")), few
        if not (self.x.varies() and self.x_hat.varies()):
            return (flat := Missing("one representation does not vary between rows")), flat
        both, one, other = hsic(self.sums), hsic(self.x.sums), hsic(self.x_hat.sums)
        return cka(both.debiased, one.debiased, other.debiased), cka(both.biased, one.biased, other.biased)
