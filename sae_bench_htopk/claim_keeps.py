"""A test of papers' claims: what one SAE has at one k, or on all latents, it keeps or loses when it is read at another k or cut down."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Literal, NamedTuple, TypeAlias

from sae_bench_htopk import leads
from sae_bench_htopk.board import Board
from sae_bench_htopk.contract import Missing
from sae_bench_htopk.cut_down import cut
from sae_bench_htopk.evidence import Comparison, Match, beside, check_columns, of_lead, title, unwanted
from sae_bench_htopk.saes import Sae

When: TypeAlias = Literal["at its k, against smaller ones", "above its k, against its own", "cut down, against all latents"]
BEYOND = "no readings on both sides"


class Two(NamedTuple):
    """One SAE read in two ways: as it is asked about, and as it is compared with."""

    asked: tuple[Sae, int]
    base: tuple[Sae, int]
    what: str


@dataclass(frozen=True)
class Keeps:
    """Which SAE, read when, and for each column how much it may lose there (ours), or if the claim is that it loses, more than how much."""

    one: Match
    when: When
    margins: Mapping[str, float]
    expect: Literal["keeps", "loses"] = "keeps"

    def __post_init__(self) -> None:
        """Margins are of compared columns."""
        check_columns(self.margins)

    def wanted(self) -> str:
        """The SAE and its readings."""
        return f"{self.one.words()} read {self.when}"

    def evidence(self, board: Board) -> list[Comparison]:
        """A line for each SAE, column and reading."""
        return [line for one in self.one.with_a_k(board) for column, margin in self.margins.items() for line in self.of_column(board, one, column, margin)]

    def of_column(self, board: Board, one: Sae, column: str, margin: float) -> list[Comparison]:
        """Those of one SAE and column."""
        on, lines = board.label(one), list[Comparison]()
        for two in self.readings(one):
            what, reason = f"{title(column)} {two.what}", without(column, two)
            beyond = self.when == "above its k, against its own" and reason.startswith(BEYOND)  # where a claim speaks of what it has codes for
            if silent := unwanted(column, (two.asked, two.base)) or (reason if beyond else ""):
                lines.append(beside(on, what, silent))
            else:
                lines.append(Comparison(on, what, "", untested=reason) if reason else self.line(on, column, margin, two))
        return lines

    def readings(self, one: Sae) -> Iterator[Two]:
        """The pairs of readings."""
        own = one.budget
        if self.when == "cut down, against all latents":
            yield from (Two((cut(one, size, self.one.rank), own), (one, own), f"at k = {own} on {size:,} latents, over all") for size in one.sizes())
        elif self.when == "at its k, against smaller ones":
            yield from (Two((one, own), (one, k), f"at k = {own}, over k = {k}") for k in one.ks() if k < own)
        else:
            yield from (Two((one, k), (one, own), f"at k = {k}, over k = {own}") for k in one.ks() if k > own)

    def line(self, on: str, column: str, margin: float, two: Two) -> Comparison:
        """Two readings of one SAE at L0s that differ on purpose; its seeds are taken as if they were not the same, which is the careful side."""
        bound = {"keeps": f", not less by {margin:g}", "loses": f", loses more than {margin:g}"}[self.expect] if margin else ""
        what = f"{title(column)} {two.what}{bound}"
        mine, theirs = (leads.held(sae, column, k) for sae, k in (two.asked, two.base))
        found = leads.of_held(mine, theirs)
        said = of_lead(on, what, found, margin)
        if self.expect == "keeps":
            return said
        return said._replace(favour=said.against, against=1.0 if said.favour is None else said.favour)


def without(column: str, two: Two) -> str:
    """Why one of two readings has no number at its k; empty if both have."""
    return next((found.reason for sae, k in (two.asked, two.base) if isinstance(found := sae.at(column, k), Missing)), "")
