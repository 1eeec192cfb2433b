"""HierarchicalTopK (Balagansky et al. 2025, arXiv:2505.24473): every prefix of the K largest latents must reconstruct."""

from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from sae_bench_htopk import ops
from sae_bench_htopk.contract import Codes, Step, Variant


class HierarchicalTopK(Variant):
    """One SAE for every budget up to K: the loss is the mean error, weighted if set so, over prefixes of the K largest latents."""

    @dataclass(frozen=True)
    class Config:
        """Settings that training sees: K; J as all of 1..K, K and every so many below it, or a list; and the weight of each j.

        `prefixes: [8, 32], weights: [1, 0.125]` at K = 32 is Multi-TopK, L(k) + L(4k) / 8 (Gao et al., arXiv:2406.04093).
        Weights that do not sum to 1 scale the loss against AuxK and the clip.
        """

        k: int
        prefixes: Literal["all"] | int | tuple[int, ...] = "all"
        weights: Literal["uniform", "inverse"] | tuple[float, ...] = "uniform"  # 1 / |J|; in proportion to 1 / j; as they stand

        def __post_init__(self) -> None:
            J = self.J()
            if not J or J[-1] != self.k or J[0] < 1 or any(a >= b for a, b in pairwise(J)):
                raise ValueError(f"prefixes: {self.prefixes}, wanted all, a stride of 1 to {self.k}, or a rising list that ends with k, {self.k}")
            if isinstance(self.weights, tuple) and (len(self.weights) != len(J) or min(self.weights) < 0 or not sum(self.weights)):
                raise ValueError(f"weights: {list(self.weights)}, wanted one of at least 0 for each of the {len(J)} prefixes, not all 0")

        def J(self) -> tuple[int, ...]:
            """The prefixes that must reconstruct, rising."""
            if isinstance(self.prefixes, tuple):
                return self.prefixes
            stride = 1 if self.prefixes == "all" else self.prefixes
            return tuple(range(self.k, 0, -stride))[::-1] if 1 <= stride <= self.k else ()

        def omega(self) -> Float[Tensor, " k"]:
            """The weight of each prefix of 1..K; 0 on those outside J."""
            J = self.J()
            raw = self.weights if isinstance(self.weights, tuple) else [1 / j if self.weights == "inverse" else 1.0 for j in J]
            total = 1.0 if isinstance(self.weights, tuple) else sum(raw)
            return torch.zeros(self.k).index_put_((torch.tensor(J) - 1,), torch.tensor(raw) / total)

    def step(self, x: Float[Tensor, "batch d"]) -> Step:
        """Chooses K latents of each row and weighs the prefixes in J."""
        return self.loss_of(x, self.chosen(x, self.config.k), self.prefix_weights)

    def prefix_weights(self, codes: Codes) -> tuple[Tensor, Tensor]:
        """omega on the prefixes in J; a row with fewer than K positive latents keeps the rest of the weight on its last."""
        J = self.config.omega().to(codes.values.device)
        omega, omega_0 = J[ops.ranks_in_row(codes.offsets)], torch.zeros(len(codes.offsets) - 1, device=J.device)
        left = J.sum() - torch.cat((J.new_zeros(1), J.cumsum(0)))[codes.lengths()]
        last, last_0 = ops.last_prefix(codes.offsets)
        return omega + last * left[ops.owners(codes.offsets)], omega_0 + last_0 * left
