"""The variance of the held-out activations about their mean, by document: what every share of explained variance is divided by."""

from functools import lru_cache
from typing import TypeAlias

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from sae_bench_htopk.contract import Missing

# c [d]; for each group of rows the sum of x - c [groups, d]; its rows and the sum of ||x - c||^2 [groups, 2]
Spread: TypeAlias = tuple[Float[Tensor, " d"], Float[Tensor, "groups d"], Float[Tensor, "groups 2"]]


def grouped(document: Int[Tensor, " rows"], massive: Bool[Tensor, " rows"], documents: int) -> Int[Tensor, " rows"]:
    """A group for each document's plain rows, and after those one for each document's massive rows."""
    return document.long() + documents * massive.long()


def added(values: Float[Tensor, "rows columns"], group: Int[Tensor, " rows"], groups: int) -> Float[Tensor, "groups columns"]:
    """The sum of each group's rows."""
    return values.new_zeros(groups, values.shape[1]).index_add_(0, group, values)


@lru_cache(maxsize=2)
def spread_after(before: Spread | None, x: Float[Tensor, "rows d"], document: Int[Tensor, " rows"], massive: Bool[Tensor, " rows"], documents: int) -> Spread:
    """The spread of the activations after one more batch. Remembered by identity: SAEs that see the same text share one.

    c is the mean of the first batch: it drops out of the result, but without it the variance would be a small difference of large sums.
    """
    c = x.double().mean(0) if before is None else before[0]
    centred = x.double() - c
    squares = torch.stack((torch.ones_like(centred[:, 0]), centred.square().sum(1)), dim=1)
    group = grouped(document, massive, documents)
    sums = added(centred, group, 2 * documents), added(squares, group, 2 * documents)
    return (c, *sums) if before is None else (c, before[1] + sums[0], before[2] + sums[1])


def explained(spread: Spread, errors: Float[Tensor, " groups"], weights: Float[Tensor, " groups"], forgiven: float = 0.0) -> float | Missing:
    """1 - (error - forgiven) / variance, each group of rows counted `weights` times; the variance is about the mean of just these rows."""
    if not float(weights @ spread[2][:, 0]):
        return Missing("no rows with any weight")
    if (found := total_of(spread, weights)) is None:
        return Missing("the activations do not vary, so there is no variance to explain")
    return 1 - (float(weights @ errors) - forgiven) / found[1]


def total_of(spread: Spread, weights: Float[Tensor, " groups"]) -> tuple[float, float] | None:
    """(rows, the sum of their squared distances from their mean), each group counted `weights` times; None if that is nothing."""
    _, firsts, counted = spread
    rows, squares = map(float, weights @ counted)
    total = squares - float((weights @ firsts).square().sum()) / rows if rows else 0.0
    return (rows, total) if total > 1e-12 * squares else None
