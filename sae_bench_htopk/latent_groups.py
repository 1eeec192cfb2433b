"""Latents by groups: bands of the rank that a code has in its row, and shells of the dictionary, compared where they fire equally often."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from sae_bench_htopk.census import Firings
from sae_bench_htopk.contract import Setting

FIRST = 4  # ranks in the first band; each further one reaches twice as far
STEPS = 4  # of firing frequency to an octave, in which latents count as firing equally often
CUTS = (0.25, 0.5, 1.0)  # of a dictionary that is not nested: the granularities of progressive coding (arXiv:2505.00190)


def bands(firings: Firings) -> Iterator[tuple[str, Firings]]:
    """What each band of ranks adds: rank 1-4, 5-8, 9-16, 17-32, ... as far as there are codes; no row's codes are in two."""
    first, last = 0, FIRST
    while first <= firings.rank.max(initial=-1):
        yield f"{first + 1}-{last}", firings.only((firings.rank >= first) & (firings.rank < last))
        first, last = last, 2 * last


@dataclass(frozen=True)
class Shells:
    """Which shell each latent belongs to, the innermost 0, and how many latents are in each."""

    of: Int[np.ndarray, " latents"]
    sizes: Int[np.ndarray, " shells"]

    @property
    def names(self) -> list[str]:
        """By the places that their latents have in the order of importance."""
        last = self.sizes.cumsum()
        return [f"{start + 1:,}-{end:,}" for start, end in zip(last - self.sizes, last, strict=True)]


def shells_of(setting: Setting) -> Shells | None:
    """The nested dictionaries where there are several, else quarters of the order of importance; None if it is not known, or latents were cut."""
    if setting.usable < setting.latents:
        return None
    if setting.shells is not None and int(setting.shells.max()) > 0:
        of = setting.shells.cpu().numpy().astype(np.int64)
    elif setting.order is not None:
        of = np.empty(setting.latents, dtype=np.int64)
        ends = [round(cut * setting.latents) for cut in CUTS]
        of[setting.order.cpu().numpy()] = np.searchsorted(ends, np.arange(setting.latents), side="right")
    else:
        return None
    return Shells(of, np.bincount(of))


@dataclass(frozen=True)
class Matching:
    """Shares for means over shells in which every quarter of an octave of firing frequency counts alike.

    Raw means confound the shell with frequency, as inner latents fire more often. In each such step the latents of a shell share
    what the shell with the fewest latents there has in all: steps in which a shell has none count for no shell.
    """

    shell: Int[np.ndarray, " latents"]
    step: Int[np.ndarray, " latents"]
    shells: int

    @classmethod
    def of(cls, firings: Firings, shells: Shells) -> "Matching":
        """Of the judged latents."""
        return cls(shells.of[firings.names], np.floor(STEPS * np.log2(np.maximum(firings.counts, 1))).astype(np.int64), len(shells.sizes))

    def raw(self, shell: int) -> Float[np.ndarray, " latents"]:
        """Every latent of the shell alike."""
        return np.asarray(self.shell == shell, dtype=np.float64)

    def table(self, value: Float[np.ndarray, " latents"]) -> Int[np.ndarray, "shells steps"]:
        """How many latents that have a number each shell has in each step."""
        steps = int(self.step.max(initial=0)) + 1
        cell = (self.shell * steps + self.step)[np.isfinite(value)]
        return np.asarray(np.bincount(cell, minlength=self.shells * steps).reshape(self.shells, steps))

    def matched(self, shell: int, value: Float[np.ndarray, " latents"]) -> Float[np.ndarray, " latents"]:
        """What each latent of the shell counts; their sum is how many were matched, the same for every shell."""
        counts = self.table(value)
        share = counts.min(0) / np.maximum(counts[shell], 1)
        return np.where((self.shell == shell) & np.isfinite(value), share[self.step], 0.0)
