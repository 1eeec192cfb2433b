"""The plain SAE (Bricken et al. 2023, transformer-circuits.pub; Cunningham et al. 2023, arXiv:2309.08600): ReLU, kept sparse by L1."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from sae_bench_htopk.contract import Selector, Step, Variant


class Relu(Variant):
    """Every positive latent reconstructs; a penalty on the sum of activations keeps them few. Its L0 comes out of training."""

    auxk = False

    @dataclass(frozen=True)
    class Config:
        """Settings that training sees."""

        l1: float = 0.02  # price of one unit of activation times decoder norm, in squared error of vectors of mean squared norm 1

        def __post_init__(self) -> None:
            if self.l1 < 0:
                raise ValueError(f"l1: {self.l1}, wanted at least 0")

    @classmethod
    def native(cls, config: Config) -> Selector:
        """It fires above a threshold, 0; a higher one is fewer of the same codes."""
        return "threshold"

    @classmethod
    def budget(cls, config: Config) -> None:
        """The penalty decides, not a number."""

    def step(self, x: Float[Tensor, "batch d"]) -> Step:
        """A dense step: thousands of codes per vector at the start make a sparse one slower."""
        activations = self.activation(self.preactivations(x))
        x_hat = torch.addmm(self.b_dec, activations, self.W_dec)
        error = (x - x_hat).square().sum(1).mean()
        price = (activations @ self.W_dec.norm(dim=1)).mean()
        return Step(error + self.config.l1 * price, x_hat.detach(), (activations.detach() > 0).any(0))
