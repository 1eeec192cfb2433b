"""A test of papers' claims: latents of the inner shells of a dictionary are more interpretable than those of the outer ones."""

from collections.abc import Mapping
from dataclasses import dataclass
from statistics import fmean
from typing import Any, Literal, NamedTuple

from scipy import special  # scipy.stats is slow to import

from sae_bench_htopk import leads
from sae_bench_htopk.board import Board
from sae_bench_htopk.contract import Missing
from sae_bench_htopk.evidence import Comparison, Match, of_lead
from sae_bench_htopk.group_tables import first_place, of_row
from sae_bench_htopk.leads import Lead, Noise
from sae_bench_htopk.saes import Sae

Z = float(special.ndtri((1 + leads.LEVEL) / 2))  # standard errors in half an interval


class End(NamedTuple):
    """One measure of one shell and seed, with the standard error of the text; None where no interval is known."""

    value: float
    error: float | None


@dataclass(frozen=True)
class Fades:
    """Which SAE, which measures of its shells, and whether those count all latents or as many of each firing frequency."""

    one: Match
    measures: tuple[Literal["intruder", "monosemanticity", "purity"], ...]
    how: Literal["raw", "matched"]

    def wanted(self) -> str:
        """The SAE and the shells."""
        return f"{self.one.words()} with measures of its shells"

    def evidence(self, board: Board) -> list[Comparison]:
        """A line for each SAE and measure: the innermost shell against the outermost."""
        return [line for one in self.one.with_a_k(board) for measure in self.measures if (line := self.line(board, one, measure)) is not None]

    def line(self, board: Board, one: Sae, measure: str) -> Comparison | None:
        """At the k that it was trained at; None if no record has shells there."""
        rows = [parts for rows in one.rows.values() if len(parts := of_row(rows.get(one.reading(one.budget)), "shells")) > 1]
        if not rows:
            return None
        names = sorted(rows[0], key=first_place)
        what = f"{measure} ({self.how}) at k = {one.budget}, latents {names[0]} over {names[-1]}"
        inner, outer = ([end for parts in rows if (end := self.end(parts.get(name), measure))] for name in (names[0], names[-1]))
        if not inner or not outer:
            return Comparison(board.label(one), what, "", untested="too few latents fire often enough")
        return of_lead(board.label(one), what, difference(inner, outer, documents=documents(one)))

    def end(self, part: Mapping[str, Any] | None, measure: str) -> End | None:
        """What one shell has, if enough of its latents could be judged."""
        found = ((part or {}).get(measure) or {}).get(self.how)
        if not found or found.get("value") is None:
            return None
        ends = found.get("interval")
        return End(found["value"], (ends[1] - ends[0]) / 2 / Z if ends else None)


def documents(sae: Sae) -> int:
    """How many held-out documents its numbers stand on."""
    return min(int(record["text"].get("held_out_documents") or 0) for record in sae.records)


def difference(inner: list[End], outer: list[End], documents: int) -> Lead:
    """Errors of the text are those of both ends as if they were independent, and of the seeds' mean as if all saw one text, which they do."""
    value = fmean(end.value for end in inner) - fmean(end.value for end in outer)
    errors = [[end.error for end in ends if end.error is not None] for ends in (inner, outer)]
    text: Noise | Missing = Missing(leads.NO_DRAWS)
    if all(errors) and documents > 1:
        text = leads.together([Noise(fmean(one), documents - 1) for one in errors])
    return Lead(value, text, leads.over_seeds([end.value for end in inner], [end.value for end in outer]))
