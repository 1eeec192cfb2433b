"""A test of papers' claims: training one kind of SAE leaves fewer latents that never fire than training another."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean, variance

from sae_bench_htopk import leads
from sae_bench_htopk.board import Board
from sae_bench_htopk.evidence import NO_DOCUMENTS, Comparison, Match, of_lead, partners
from sae_bench_htopk.leads import Lead, Noise
from sae_bench_htopk.markdown import rounded
from sae_bench_htopk.saes import Sae


@dataclass(frozen=True)
class FewerDead:
    """Which SAE, and those that should have more; pairs have these settings in common."""

    one: Match
    others: tuple[Match, ...]
    alike: tuple[str, ...] = ()

    def wanted(self) -> str:
        """Both."""
        return f"{self.one.words()} and {' or '.join(match.words() for match in self.others)} trained at the same k"

    def evidence(self, board: Board) -> list[Comparison]:
        """A line for each pair whose training curves say how many latents are dead at their end."""
        lines = []
        for one in self.one.with_a_k(board):
            for _, other in partners(board, one, self.others, self.alike):
                mine, theirs = dead(one), dead(other)
                what = f"dead latents at the end of training, fewer than {board.label(other)}"
                if not mine or not theirs:
                    lines.append(Comparison(board.label(one), what, "", untested="the records do not say"))
                    continue
                counts = " against ".join(rounded(fmean(values)) for values in (mine, theirs))
                line = of_lead(board.label(one), f"{what}: {counts}", fewer(mine, theirs))
                lines.append(line)
        return lines


def dead(sae: Sae) -> list[float]:
    """The number of each seed."""
    ends = [record["curve"][-1].get("dead") for record in sae.records if record["curve"]]
    return [float(end) for end in ends if end is not None]


def fewer(mine: Sequence[float], theirs: Sequence[float]) -> Lead:
    """By how many fewer. Seeds are all the noise that there is, and counts vary by Poisson's law at least: three that are equal are no proof of none."""
    if min(len(mine), len(theirs)) < 2:
        return Lead(fmean(theirs) - fmean(mine), NO_DOCUMENTS, leads.over_seeds(mine, theirs))
    noises = [Noise(math.sqrt(max(variance(counts), fmean(counts)) / len(counts)), len(counts) - 1) for counts in (mine, theirs)]
    return Lead(fmean(theirs) - fmean(mine), NO_DOCUMENTS, leads.together(noises))
