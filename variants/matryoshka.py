"""Matryoshka SAE (Bussmann et al. 2025, arXiv:2503.17547): nested dictionaries, each of which must reconstruct alone."""

from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor

from sae_bench_htopk import ops
from sae_bench_htopk.contract import Codes, Selector, Step, Variant


class Matryoshka(Variant):
    """Nested dictionaries: latents of the first n must reconstruct alone, for each n of a list; equal weights."""

    @dataclass(frozen=True)
    class Config:
        """Settings that training sees; `groups` are the sizes of the nested dictionaries as shares of the whole."""

        k: int
        groups: tuple[float, ...] = (1 / 32, 3 / 32, 7 / 32, 15 / 32, 1.0)  # 2048 to 65536 of 65536 (arXiv:2503.17547)
        base: Literal["batchtopk", "topk"] = "batchtopk"

        def __post_init__(self) -> None:
            if not self.groups or self.groups[-1] != 1 or self.groups[0] <= 0 or any(a >= b for a, b in pairwise(self.groups)):
                raise ValueError(f"groups: {list(self.groups)}, wanted rising shares above 0 that end with 1.0")

    @classmethod
    def native(cls, config: Config) -> Selector:
        """That of its base."""
        return "threshold" if config.base == "batchtopk" else "row"

    def sizes(self) -> list[int]:
        """The number of latents in each nested dictionary."""
        return [round(share * len(self.W_enc)) for share in self.config.groups]

    def shells(self) -> Int[Tensor, " latents"]:
        """The innermost dictionary that holds each latent."""
        ends = torch.tensor(self.sizes())
        return torch.bucketize(torch.arange(len(self.W_enc)), ends, right=True)

    def step(self, x: Float[Tensor, "batch d"]) -> Step:
        """Chooses latents as its base does, orders them by index, and weighs the end of each nested dictionary."""
        with torch.no_grad():
            choose = ops.choose_per_batch if self.config.base == "batchtopk" else ops.choose_per_row
            latents, offsets = choose(self.scores(x), self.config.k)
            latents = ops.sort_by_latent(latents, offsets, len(self.W_enc))
        return self.loss_of(x, (latents, offsets), self.prefix_weights)

    def prefix_weights(self, codes: Codes) -> tuple[Tensor, Tensor]:
        """1/groups at the last code of each nested dictionary; an empty shell adds its weight to the prefix before it."""
        batch, groups = len(codes.offsets) - 1, len(self.config.groups)
        shell = self.shells().to(codes.latents.device)[codes.latents]
        owner = ops.owners(codes.offsets)
        inside = torch.bincount(owner * groups + shell, minlength=batch * groups).view(batch, groups).cumsum(1)
        omega = torch.zeros(len(shell) + 1, device=codes.values.device)
        omega_0 = (inside == 0).sum(1) / groups
        ends = (codes.offsets[:-1, None] + inside - 1)[inside > 0]
        omega.index_add_(0, ends, torch.full((len(ends),), 1 / groups, device=omega.device))
        return omega[:-1], omega_0.to(omega.dtype)
