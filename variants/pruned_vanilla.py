"""Pruned vanilla SAE (Peter & Sogaard 2025, arXiv:2505.00190): train plainly, then keep only the most important latents."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from sae_bench_htopk.contract import Selector, Variant


class PrunedVanilla(Variant):
    """A plain SAE's weights read with only its most important latents, by E[(a ||w||)^2]; nothing is trained anew."""

    @dataclass(frozen=True)
    class Config:
        """Settings of the base, which is trained once for itself and for this reading; topk is the paper's vanilla SAE."""

        k: int | None = None  # of topk or batchtopk
        base: Literal["topk", "batchtopk", "relu"] = "topk"
        l1: float | None = None  # of relu

        def __post_init__(self) -> None:
            wanted, other = ("l1", "k") if self.base == "relu" else ("k", "l1")
            if getattr(self, wanted) is None or getattr(self, other) is not None:
                raise ValueError(f"base: {self.base}, wanted with {wanted} and without {other}")

    @classmethod
    def trained_as(cls, config: Config) -> tuple[str, Mapping[str, object]]:
        """The base's weights are the ones that are read; the pruning is in the readings (`latents`)."""
        return config.base, {"l1": config.l1} if config.base == "relu" else {"k": config.k}

    @classmethod
    def native(cls, config: Config) -> Selector:
        """That of its base."""
        return "row" if config.base == "topk" else "threshold"

    @classmethod
    def budget(cls, config: Config) -> int | None:
        """That of its base."""
        return config.k
