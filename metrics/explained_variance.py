"""Explained variance and its kin: how near the reconstruction comes to the activation, over all held-out rows."""

from collections.abc import Mapping
from functools import lru_cache
from typing import TypeAlias

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from sae_bench_htopk.contract import Batch, Column, Metric, Missing, Setting

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


class ExplainedVariance(Metric):
    """Share of the activation's variance about its mean that the reconstruction explains, over all held-out rows at once."""

    columns = (
        Column("ev", "higher", "explained variance: 1 - sum ||x - x_hat||^2 / sum ||x - mean||^2, massive rows left out"),
        Column("fvu", "lower", "fraction of variance unexplained: 1 - ev"),
        Column("cosine", "higher", "mean cosine of x and x_hat, massive rows left out; 0 where x_hat is 0"),
        Column("relative_norm", "neither", "mean of ||x_hat|| / ||x||, massive rows left out: below 1 is shrinkage"),
        Column("ev_with_massive", "higher", "explained variance over all rows, massive ones too"),
        Column("massive_share", "neither", "share of rows whose norm is massive"),
    )

    def __init__(self, setting: Setting) -> None:
        super().__init__(setting)
        self.spread: Spread | None = None
        self.sums: Float[Tensor, "groups 4"] | None = None  # squared error, cosine, ratio of norms, rows with a norm

    def update(self, batch: Batch) -> None:
        """Adds up in float64, per document and apart for massive rows."""
        text, documents, x, x_hat = batch.text, self.setting.documents, batch.text.x.float(), batch.x_hat.float()
        self.spread = spread_after(self.spread, text.x, text.document, text.massive, documents)
        norm, norm_hat = (rows.norm(dim=1, dtype=torch.float64) for rows in (x, x_hat))
        tiny = torch.finfo(torch.float64).tiny
        error = (x - x_hat).square().sum(1, dtype=torch.float64)
        cosine = (x * x_hat).sum(1, dtype=torch.float64) / (norm * norm_hat).clamp_min(tiny)
        ratio = torch.where(norm > 0, norm_hat / norm.clamp_min(tiny), 0.0)
        sums = added(torch.stack((error, cosine, ratio, (norm > 0).double()), dim=1), grouped(text.document, text.massive, documents), 2 * documents)
        self.sums = sums if self.sums is None else self.sums + sums

    def result(self, weights: Float[Tensor, " documents"] | None) -> Mapping[str, float | Missing]:
        """One division for each number, after all sums."""
        if self.spread is None or self.sums is None:
            return {column.name: Missing("no held-out text") for column in self.columns}
        once = (torch.ones(self.setting.documents) if weights is None else weights).to(self.sums)
        plain, everything = torch.cat((once, torch.zeros_like(once))), torch.cat((once, once))
        _, cosine, ratio, nonzero = map(float, plain @ self.sums)
        rows, all_rows = (float(group @ self.spread[2][:, 0]) for group in (plain, everything))
        ev, none = explained(self.spread, self.sums[:, 0], plain), Missing("no rows with any weight and a norm above 0")
        return {
            "ev": ev,
            "fvu": ev if isinstance(ev, Missing) else 1 - ev,
            "cosine": cosine / nonzero if nonzero else none,
            "relative_norm": ratio / nonzero if nonzero else none,
            "ev_with_massive": explained(self.spread, self.sums[:, 0], everything),
            "massive_share": 1 - rows / all_rows if all_rows else Missing("no rows with any weight"),
        }


def explained(spread: Spread, errors: Float[Tensor, " groups"], weights: Float[Tensor, " groups"]) -> float | Missing:
    """1 - error / variance, each group of rows counted `weights` times; the variance is about the mean of just these rows."""
    _, firsts, counted = spread
    rows, squares = map(float, weights @ counted)
    if not rows:
        return Missing("no rows with any weight")
    total = squares - float((weights @ firsts).square().sum()) / rows
    if total <= 1e-12 * squares:
        return Missing("the activations do not vary, so there is no variance to explain")
    return 1 - float(weights @ errors) / total
