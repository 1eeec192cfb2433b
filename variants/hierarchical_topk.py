"""HierarchicalTopK (Balagansky et al. 2025, arXiv:2505.24473): every prefix of the K largest latents must reconstruct."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from sae_bench_htopk import ops
from sae_bench_htopk.contract import Codes, Step, Variant


class HierarchicalTopK(Variant):
    """One SAE for every budget up to K: the loss is the mean error over the prefixes j in J of the K largest latents."""

    @dataclass(frozen=True)
    class Config:
        """Settings that training sees: K, and J as a stride (1: every prefix of 1..K; K itself always belongs to it)."""

        k: int
        stride: int = 1

        def __post_init__(self) -> None:
            if not 1 <= self.stride <= self.k:
                raise ValueError(f"stride: {self.stride}, wanted 1 to {self.k}, the largest prefix")

    def step(self, x: Float[Tensor, "batch d"]) -> Step:
        """Chooses K latents of each row and weighs each prefix in J by 1/|J|."""
        with torch.no_grad():
            chosen = ops.choose_per_row(self.scores(x), self.config.k)
        return self.loss_of(x, chosen, self.prefix_weights)

    def prefix_weights(self, codes: Codes) -> tuple[Tensor, Tensor]:
        """1/|J| on each prefix in J; a row with fewer than K positive latents keeps the rest of the weight on its last."""
        K = self.config.k
        J = torch.zeros(K, device=codes.values.device)
        J[torch.arange(K - 1, -1, -self.config.stride)] = 1.0
        J /= J.sum()
        omega, omega_0 = J[ops.ranks_in_row(codes.offsets)], torch.zeros(len(codes.offsets) - 1, device=J.device)
        left = 1 - torch.cat((J.new_zeros(1), J.cumsum(0)))[codes.lengths()]
        last, last_0 = ops.last_prefix(codes.offsets)
        return omega + last * left[ops.owners(codes.offsets)], omega_0 + last_0 * left
