"""Matryoshka SAE (Bussmann et al. 2025, arXiv:2503.17547): nested dictionaries, each of which must reconstruct alone."""

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor

from sae_bench_htopk import ops
from sae_bench_htopk.contract import Codes, Selector, Step, Variant


class Matryoshka(Variant):
    """Nested dictionaries: latents of the first n must reconstruct alone, for each n of a list; their errors weigh alike unless set."""

    @dataclass(frozen=True)
    class Config:
        """Settings that training sees; `groups` are the sizes of the nested dictionaries as shares of the whole.

        Weights are taken as they stand: dictionary_learning's default is 1 / groups**2 on each, ours 1 / groups.
        """

        k: int
        groups: tuple[float, ...] = (1 / 32, 3 / 32, 7 / 32, 15 / 32, 1.0)  # 2048 to 65536 of 65536 (arXiv:2503.17547)
        base: Literal["batchtopk", "topk"] = "batchtopk"
        weights: tuple[float, ...] | None = None  # of each nested dictionary's error; None: equal, 1 in all

        def __post_init__(self) -> None:
            if not self.groups or self.groups[-1] != 1 or self.groups[0] <= 0 or any(a >= b for a, b in pairwise(self.groups)):
                raise ValueError(f"groups: {list(self.groups)}, wanted rising shares above 0 that end with 1.0")
            if self.weights is not None and (len(self.weights) != len(self.groups) or min(self.weights) < 0 or not sum(self.weights)):
                raise ValueError(f"weights: {list(self.weights)}, wanted one of at least 0 for each of the {len(self.groups)} groups, not all 0")

    @classmethod
    def native(cls, config: Config) -> Selector:
        """That of its base."""
        return "threshold" if config.base == "batchtopk" else "row"

    @classmethod
    def has_ema(cls, config: Config) -> bool:
        """As its base."""
        return config.base == "batchtopk"

    def sizes(self) -> list[int]:
        """The number of latents in each nested dictionary."""
        return [round(share * len(self.W_enc)) for share in self.config.groups]

    def shells(self) -> Int[Tensor, " latents"]:
        """The innermost dictionary that holds each latent."""
        ends = torch.tensor(self.sizes())
        return torch.bucketize(torch.arange(len(self.W_enc)), ends, right=True)

    def by_index(self, x: Float[Tensor, "batch d"]) -> Codes:
        """The codes that its base chooses, in each row by index."""
        return Codes(*ops.sort_by_latent(*self.chosen(x, self.config.k, "batch" if self.config.base == "batchtopk" else "row"), len(self.W_enc)))

    def noted(self) -> Mapping[str, float]:
        """L0 within each nested dictionary, as the last step chose."""
        return {f"l0_{size}": float((self.latest.latents < size).sum()) / len(self.latest.lengths()) for size in self.sizes()}

    def step(self, x: Float[Tensor, "batch d"]) -> Step:
        """Weighs the end of each nested dictionary."""
        self.latest = self.by_index(x)
        return self.loss_of(x, self.latest, self.prefix_weights)

    def prefix_weights(self, codes: Codes) -> tuple[Tensor, Tensor]:
        """Each group's weight at the last code of its nested dictionary; an empty shell adds its weight to the prefix before it."""
        batch, groups = len(codes.offsets) - 1, len(self.config.groups)
        weights = torch.tensor(self.config.weights or [1 / groups] * groups, device=codes.values.device)
        shell = self.shells().to(codes.latents.device)[codes.latents]
        inside = torch.bincount(ops.owners(codes.offsets) * groups + shell, minlength=batch * groups).view(batch, groups).cumsum(1)
        omega = torch.zeros(len(shell) + 1, device=codes.values.device)
        ends = (codes.offsets[:-1, None] + inside - 1)[inside > 0]
        omega.index_add_(0, ends, weights.expand(batch, groups)[inside > 0])
        return omega[:-1], (inside == 0).to(weights.dtype) @ weights
