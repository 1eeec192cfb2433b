"""A test of papers' claims: training one kind of SAE takes so many times the seconds of training another, as the clock of one run on one machine has it."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean, variance

from sae_bench_htopk import seconds
from sae_bench_htopk.board import Board
from sae_bench_htopk.contract import Missing
from sae_bench_htopk.evidence import Comparison, Match, partners
from sae_bench_htopk.leads import Noise
from sae_bench_htopk.markdown import rounded
from sae_bench_htopk.records import Record
from sae_bench_htopk.saes import Sae

SAME = ("commit", "deterministic")  # of two trainings whose clocks may be compared, beside what `seconds` wants of any


@dataclass(frozen=True)
class Cost:
    """Which SAE, over which, the band that the ratio of their seconds should lie in (ours, round what a paper has), and how they belong together."""

    one: Match
    others: tuple[Match, ...]
    low: float
    high: float
    alike: tuple[str, ...] = ()  # settings that a pair has in common
    named_by: str = ""  # the setting of the first that says which variant to hold it against

    def __post_init__(self) -> None:
        """A band has two ends."""
        if not 0 < self.low < self.high:
            raise ValueError(f"low: {self.low} with a high of {self.high}, wanted 0 < low < high")

    def wanted(self) -> str:
        """Both."""
        named = f", of the variant that {self.named_by} names" if self.named_by else ""
        return f"{self.one.words()} and {' or '.join(match.words() for match in self.others)} trained at the same k{named}"

    def evidence(self, board: Board) -> list[Comparison]:
        """A line for each pair."""
        pairs = [(one, other) for one in self.one.with_a_k(board) for _, other in partners(board, one, self.others, self.alike)]
        return [self.line(board, one, other) for one, other in pairs if not self.named_by or one.config.get(self.named_by) == other.variant]

    def line(self, board: Board, one: Sae, other: Sae) -> Comparison:
        """The ratio of the seeds whose two clocks may be compared; a seed's own ratio, as both were trained in one pass."""
        on, what = board.label(one), f"seconds of training over {board.label(other)}, claimed {rounded(self.low, digits=4)} to {rounded(self.high, digits=4)}"
        theirs = {record["sae"]["seed"]: record for record in other.records}
        pairs = [(record, theirs[seed]) for record in one.records if (seed := record["sae"]["seed"]) in theirs]
        faults = [fault(pair, board.records) for pair in pairs]
        logs = [math.log(mine["cost"]["train_seconds"] / his["cost"]["train_seconds"]) for (mine, his), bad in zip(pairs, faults, strict=True) if not bad]
        if len(logs) < 2:
            reason = next((bad for bad in faults if bad), "one seed alone")
            return Comparison(on, what, Missing(reason) if not logs else rounded(math.exp(fmean(logs))), untested=reason)
        return self.of_ratios(on, what, logs)

    def of_ratios(self, on: str, what: str, logs: Sequence[float]) -> Comparison:
        """Both ends of the band are tested; either of them may be passed."""
        mean, noise = fmean(logs), Noise(math.sqrt(variance(logs) / len(logs)), len(logs) - 1)
        ends = (rounded(math.exp(mean + side * noise.half())) for side in (-1, 1))
        above, below = mean - math.log(self.low), math.log(self.high) - mean
        favour, against = max(noise.p(above), noise.p(below)), min(noise.p(-above), noise.p(-below))
        shown = f"{rounded(math.exp(mean))} (95%: {' to '.join(ends)})"
        return Comparison(on, what, shown, favour, against, note="what else the machine did is not in the records")


def fault(pair: Sequence[Record], everything: Sequence[Record]) -> str:
    """Why the clocks of two trainings say nothing of each other; empty if they may be compared."""
    one, other = (record["provenance"] for record in pair)
    if reason := seconds.comparable(pair):
        return reason
    if any(record["cost"]["train_seconds"] <= 0 for record in pair):
        return "a training took no time"
    if differing := [name for name in SAME if one.get(name) != other.get(name)]:
        return f"trained under another {' and '.join(differing)}"
    if any(record["provenance"].get("resumed") for record in pair):
        return "a training went on from a snapshot"
    if any(seconds.at_once(record, rival) for record in pair for rival in everything):
        return "another seed was being trained on the machine at the same time"
    return ""
