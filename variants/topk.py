"""TopK (Gao et al. 2024, arXiv:2406.04093): reconstruct from the k largest latents of each vector."""

from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

from sae_bench_htopk import ops
from sae_bench_htopk.contract import Step, Variant


class TopK(Variant):
    """The k largest latents of each vector; the loss is the error of all k together."""

    @dataclass(frozen=True)
    class Config:
        """Settings that training sees."""

        k: int

    def step(self, x: Float[Tensor, "batch d"]) -> Step:
        """Chooses k latents of each row and weighs only the whole of them."""
        return self.loss_of(x, self.chosen(x, self.config.k), lambda codes: ops.last_prefix(codes.offsets))
