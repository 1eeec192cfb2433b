"""What one comparison says for and against a claim of a paper: a number, how far noise could move it, and how likely noise alone would give it."""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal, NamedTuple, Protocol, TypeAlias, runtime_checkable

from sae_bench_htopk import leads
from sae_bench_htopk.board import Board
from sae_bench_htopk.contract import Missing, Rank
from sae_bench_htopk.leads import Lead
from sae_bench_htopk.markdown import rounded
from sae_bench_htopk.plugins import suggest
from sae_bench_htopk.saes import COMPARED, EV, Number, Sae
from sae_bench_htopk.typed import Names

K: TypeAlias = Literal["the same k", "a larger k"]  # that the others were trained at
Column: TypeAlias = Annotated[str, Names(lambda: COMPARED)]
NO_DOCUMENTS = Missing("no number of documents")
NOT_WANTED = ("not read there", "not asked for", "not measured")  # how a reason begins where nobody wanted the number


def check_columns(margins: Iterable[str]) -> None:
    """Raises ValueError, as a settings class does, if one of them is no compared column."""
    if strange := [column for column in margins if column not in COMPARED]:
        raise ValueError(f"margins: {strange[0]} is no compared column; {suggest(strange[0], COMPARED)}")


class Comparison(NamedTuple):
    """One line under a claim; without a test it has a reason."""

    on: str  # whom the claim is judged for: all of its lines share a verdict
    what: str
    shown: str | Missing  # the number, with half its 95% interval
    favour: float | None = 1.0  # one-sided p against chance; None where the test can speak against the claim alone
    against: float = 1.0
    untested: str = ""  # why there is no test
    note: str = ""
    aside: bool = False  # whether nobody asked for it, so that it counts only where a claim has no other line

    def noted(self, note: str) -> "Comparison":
        """With something more to be known of it, first."""
        return self._replace(note="; ".join(part for part in (note, self.note) if part))


@runtime_checkable
class Trial(Protocol):
    """The settings of one kind of test, which finds the comparisons on a board."""

    def evidence(self, board: Board) -> list[Comparison]:
        """Every comparison that the board allows; none if it has no such SAEs."""

    def wanted(self) -> str:
        """Which SAEs it wants, for a board that has none."""


@dataclass(frozen=True)
class Match:
    """Which SAEs are meant: a variant, settings that must be as given, and the order by which one that is cut down keeps its latents."""

    variant: str
    config: Mapping[str, str | int] = field(default_factory=dict)
    rank: Rank = "importance"

    def saes(self, board: Board, latents: int | None = None) -> list[Sae]:
        """Those of the board, of the whole size unless another is given; no controls. Of those that differ in their learning rate alone, one."""
        size = latents or board.latents
        found = [sae for sae in board.everything if (sae.variant, sae.latents, sae.control) == (self.variant, size, False)]
        found = [sae for sae in found if all(sae.config.get(key) == value for key, value in self.config.items())]
        return [max((sae for sae in found if sae.config == config), key=suited) for config in distinct(sae.config for sae in found)]

    def with_a_k(self, board: Board) -> list[Sae]:
        """Those that were trained at a k, and not at what training came to."""
        return [sae for sae in self.saes(board) if not sae.measured]

    def words(self) -> str:
        """variant key=value."""
        order = [f"cut down in {self.rank} order"] if self.rank != "importance" else []
        return " ".join([self.variant, *(f"{key}={value}" for key, value in self.config.items()), *order])


def distinct(configs: Iterable[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Each once, in their order."""
    found: list[Mapping[str, Any]] = []
    for config in configs:
        found += [] if config in found else [config]
    return found


def suited(sae: Sae) -> tuple[int, float]:
    """What makes a learning rate the one to judge by: the most seeds, then the best explained variance at its own k."""
    found = sae.read(EV, sae.budget)
    return len(sae.rows), found.mean if isinstance(found, Number) else -math.inf


def partners(board: Board, one: Sae, others: Iterable[Match], alike: Iterable[str], of: K = "the same k") -> list[tuple[Match, Sae]]:
    """The SAEs to compare one with: alike in these settings, and trained at that k."""
    pairs = [(match, sae) for match in others for sae in match.with_a_k(board) if sae is not one]
    pairs = [(match, sae) for match, sae in pairs if (sae.budget == one.budget if of == "the same k" else sae.budget > one.budget)]
    return [(match, sae) for match, sae in pairs if all(sae.config.get(key) == one.config.get(key) for key in alike)]


def title(column: str) -> str:
    """A column for people, with the way that is better where that is down."""
    name, better = COMPARED[column]
    return name if better == "higher" else f"{name} (lower is better)"


def unwanted(column: str, ks: Iterable[tuple[Sae, int]]) -> str:
    """Why there is no comparison to make, since nobody asked for a number there; empty if somebody did."""
    reasons = [found.reason for sae, k in ks if isinstance(found := sae.read(column, k), Missing)]
    return next((reason for reason in reasons if reason.startswith(NOT_WANTED)), "")


def beside(on: str, what: str, reason: str) -> Comparison:
    """A line of what the claim does not ask for, or nobody measured on purpose."""
    return Comparison(on, what, "", untested=reason, aside=True)


def at_one_l0(on: str, what: str, column: str, k: int, one: Sae, other: Sae, margin: float = 0.0) -> Comparison:
    """How much better one is than the other at an L0 of k; with a margin, whether it is not worse by more."""
    if reason := unwanted(column, ((one, k), (other, k))):
        return beside(on, what, reason)
    for sae in (one, other):
        if not isinstance(number := sae.at(column, k), Number):
            return Comparison(on, what, number, untested=number.reason)
    return of_lead(on, what, leads.lead(column, k, one, other), margin)


def of_lead(on: str, what: str, found: Lead, margin: float = 0.0) -> Comparison:
    """The lead as a line: tested against 0, or against falling behind by the margin, both ways."""
    if reason := untestable(found):
        return Comparison(on, what, number_of(found), untested=reason)
    note = f"seeds alone: {leads.NO_DRAWS}" if found.documents == Missing(leads.NO_DRAWS) else ""
    return Comparison(on, what, number_of(found), found.p(-margin), found._replace(value=-found.value).p(margin), note=note)


def untestable(found: Lead) -> str:
    """Why a lead decides nothing: without seeds, where documents do not pair, or where nobody knows what two L0s make.

    Draws that no record keeps leave the seeds, which are then said to be all.
    """
    if math.isinf(found.allowed()):
        return "measured at two L0s, and no further readings say what that makes"
    if isinstance(found.seeds, Missing):
        return found.seeds.reason
    missing = isinstance(found.documents, Missing) and found.documents.reason
    return missing if missing and missing not in (leads.NO_DRAWS, NO_DOCUMENTS.reason) else ""


def number_of(found: Lead) -> str:
    """The value with half its interval, ~ if it was interpolated, and both L0s if they are not one."""
    half = found.half()
    sides = f" ±{rounded(half, half)}" if half else ""
    l0s = f" (L0 {rounded(found.l0s[0], digits=4)} against {rounded(found.l0s[1], digits=4)})" if found.l0s else ""
    return f"{'~' if found.interpolated else ''}{rounded(found.value, half or None, sign=True)}{sides}{l0s}"
