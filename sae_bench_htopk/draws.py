"""Counts rows by the weights of their documents, for many draws of documents at once: sums over pairs of different rows.

Weights belong to documents and count their rows; a row never meets itself, nor a copy of itself.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from sae_bench_htopk.contract import Missing
from sae_bench_htopk.hsic import MIN_ROWS


@dataclass(frozen=True, eq=False)
class Draws:
    """Weights of rows sorted by document, one column for each draw; the first counts every row once."""

    document: Int[np.ndarray, " rows"]
    rows: Float[np.ndarray, "rows draws"]

    @classmethod
    def of(cls, document: Int[np.ndarray, " rows"], weights: Float[np.ndarray, "draws documents"]) -> "Draws":
        """Each row weighs what its document does."""
        return cls(document, np.concatenate((np.ones((len(document), 1)), weights[:, document].T), axis=1))

    @cached_property
    def moments(self) -> Float[np.ndarray, "4 draws"]:
        """Sums over rows of weight^1, ^2, ^3 and ^4."""
        return np.stack([(self.rows**power).sum(0) for power in (1, 2, 3, 4)])

    @cached_property
    def pairs(self) -> Float[np.ndarray, " draws"]:
        """The weight of all pairs of different rows."""
        return np.asarray(self.moments[0] ** 2 - self.moments[1]) / 2

    @cached_property
    def powers(self) -> Float[Tensor, "rows twice"]:
        """Weight and its square, side by side."""
        return torch.from_numpy(np.concatenate([self.rows**power for power in (1, 2)], axis=1)).float()

    def too_few(self) -> list[Missing | None]:
        """For each draw the reason if fewer than four different rows have any weight."""
        return [Missing(f"{rows} rows with any weight, wanted at least {MIN_ROWS}") if rows < MIN_ROWS else None for rows in (self.rows > 0).sum(0).tolist()]

    def summed(self, upper: Float[Tensor, "block rest"], start: int, powers: int) -> tuple[Int[np.ndarray, " groups"], Float[np.ndarray, "groups some"]]:
        """For each document of a block its first row, and what its rows have with all later rows, weighted by so many powers."""
        firsts, group = np.unique(self.document[start : start + len(upper)], return_index=True, return_inverse=True)[1:]
        member = torch.from_numpy(group) == torch.arange(len(firsts))[:, None]
        grouped = member.float() @ upper
        return firsts + start, (grouped @ self.powers[start:, : powers * self.rows.shape[1]]).double().numpy()

    def by_pair(self, upper: Float[Tensor, "block rest"], start: int) -> Float[np.ndarray, " draws"]:
        """sum w_i w_j m_ij over a block's pairs i < j; `upper` holds 0 elsewhere."""
        firsts, sums = self.summed(upper, start, 1)
        return np.asarray((self.rows[firsts] * sums).sum(0))

    def by_powers(self, upper: Float[Tensor, "block rest"], start: int) -> Float[np.ndarray, "3 draws"]:
        """sum of m_ij over a block's pairs in both orders, weighted by w_i w_j, w_i^2 w_j and w_i^2 w_j^2."""
        firsts, sums = self.summed(upper, start, 2)
        w, (once, squared) = self.rows[firsts], np.split(sums, 2, axis=1)
        return np.stack([part.sum(0) for part in (2 * w * once, w**2 * once + w * squared, 2 * w**2 * squared)])


def upper(block: Float[Tensor, "block rest"]) -> Float[Tensor, "block rest"]:
    """The block with 0 where a row meets itself or an earlier one."""
    block[:, : len(block)].triu_(1)
    return block
