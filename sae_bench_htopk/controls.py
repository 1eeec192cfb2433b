"""Control rows: what PCA, an untrained SAE and a random decoder score in the same pipeline, so that a number means something."""

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from sae_bench_htopk import ops
from sae_bench_htopk.contract import Codes, Reading, Statistics, Step, Variant


@dataclass(frozen=True)
class Control:
    """The budget that a control is made for."""

    k: int


class Untrained(Variant):
    """An SAE as it begins: random unit decoder, encoder tied to it, bias at the mean; k largest latents."""

    Config: ClassVar[type[Any]] = Control
    trained: ClassVar[bool] = False


class RandomDecoder(Variant):
    """TopK whose decoder stays random: only encoder and biases are trained (arXiv:2602.14111)."""

    Config: ClassVar[type[Any]] = Control
    frozen: ClassVar[frozenset[str]] = frozenset({"W_dec"})

    def step(self, x: Float[Tensor, "batch d"]) -> Step:
        """The step of TopK."""
        return self.loss_of(x, self.chosen(x, self.config.k), lambda codes: ops.last_prefix(codes.offsets))


class PCA(Variant):
    """The k leading principal components of the training stream: the best linear code of k numbers, not a sparse one."""

    Config: ClassVar[type[Any]] = Control
    trained: ClassVar[bool] = False

    def __init__(self, config: Control, d: int, latents: int, seed: int) -> None:
        """As many latents as there are components, whatever the suite's dictionary size."""
        super().__init__(config, d, d, seed)

    def start(self, statistics: Statistics) -> None:
        """Components from the stream's covariance, the largest first."""
        super().start(statistics)
        components = torch.linalg.eigh(statistics.covariance.double().cpu()).eigenvectors.flip(1).T
        with torch.no_grad():
            self.W_dec.copy_(components)
            self.W_enc.copy_(components)

    def encode(self, x: Float[Tensor, "batch d"], reading: Reading) -> Codes:
        """The first k components of every row, with their signs; there is nothing to select."""
        k = min(reading.k, len(self.W_enc))
        values = (x - self.b_dec) @ self.W_enc[:k].T
        latents = torch.arange(k, device=x.device).repeat(len(x))
        return Codes(values.detach().flatten(), latents, torch.arange(0, k * len(x) + 1, k, device=x.device))


CONTROLS: dict[str, type[Variant]] = {"pca": PCA, "untrained": Untrained, "random_decoder": RandomDecoder}


def dictionary_size(name: str, d: int, latents: int) -> int:
    """How many latents a control has: PCA as many as there are components, the others as many as the suite's SAEs."""
    return d if name == "pca" else latents
