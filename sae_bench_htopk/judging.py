"""The one rule by which a claim of a paper is supported, contradicted or undecided, from its comparisons corrected for their number."""

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Literal, NamedTuple, TypeAlias

from sae_bench_htopk.board import Board
from sae_bench_htopk.claims import Claim, published
from sae_bench_htopk.evidence import Comparison
from sae_bench_htopk.leads import LEVEL
from sae_bench_htopk.markdown import words
from sae_bench_htopk.significance import holm

Side: TypeAlias = Literal["for", "against", "neither", "not tested"]
Verdict: TypeAlias = Literal["supported", "contradicted", "undecided", "untested here"]
REASONS = 3  # of comparisons without a test that a line tells
RULE = (
    "A claim has several comparisons: columns, budgets, sizes. Each has a p for it and a p against it, from the noise of documents and of seeds (the "
    "largest of the tests counts), doubled as either sign was looked for, and corrected by Holm's step-down for all tested comparisons of the claim, those "
    "for and those against apart. A comparison is for or against the claim where that p is at most 0.05. *Supported*: every comparison is for it (or most, "
    "or any, where the claim says no more). *Contradicted*: any is against it (or half; or all). A test that can speak against a claim alone, as that of a "
    "lognormal, is no such comparison while it is silent: support does not need it. *Undecided*: else, also where one of them could not be tested; what "
    "nobody asked a number for, or a statement leaves out, is no comparison, unless its claim would have none at all. Of SAEs that differ in their learning "
    "rate alone, the one with the most seeds and then the best explained variance at its own k stands for all. A claim that can be tested on several SAEs "
    "is judged for each, and has their verdict if it is the same; what one supports and another contradicts is undecided. All of it holds on this model, "
    "text and budget alone, and the stream of training text is in no p."
)


class Line(NamedTuple):
    """A comparison with both p after correction; None where the test has no such side."""

    comparison: Comparison
    favour: float | None
    against: float
    side: Side


class Judged(NamedTuple):
    """A claim with its lines, the verdict for each SAE, and that of all."""

    claim: Claim
    lines: tuple[Line, ...]
    verdicts: Mapping[str, Verdict]
    verdict: Verdict
    reason: str  # why it is undecided or untested; empty if it is neither


@lru_cache(maxsize=1)
def judged(board: Board) -> tuple[Judged, ...]:
    """Every claim of the published list."""
    return tuple(judge(claim, board) for claim in published())


def judge(claim: Claim, board: Board) -> Judged:
    """One claim on one board."""
    if claim.test is None:
        return Judged(claim, (), {}, "untested here", claim.untested)
    lines = corrected(counted(claim.test.evidence(board)))
    if not lines:
        return Judged(claim, (), {}, "undecided", f"not measured here: it wants {claim.test.wanted()}")
    of = {on: [line for line in lines if line.comparison.on == on] for on in dict.fromkeys(line.comparison.on for line in lines)}
    verdicts = {on: verdict(claim.needs, own) for on, own in of.items()}
    final: Verdict = next(iter(verdicts.values())) if len(set(verdicts.values())) == 1 else "undecided"
    return Judged(claim, tuple(lines), verdicts, final, why(lines, verdicts) if final == "undecided" else "")


def counted(comparisons: Sequence[Comparison]) -> list[Comparison]:
    """Without those that nobody asked for; where there are no others, the first of each SAE says why."""
    asked = [one for one in comparisons if not one.aside]
    first = {one.on: one for one in reversed(comparisons)}
    return asked or [one for one in comparisons if one is first[one.on]]


def corrected(comparisons: Sequence[Comparison]) -> list[Line]:
    """The lines of one claim, which are one family; what was not tested is no test."""
    tested = [one for one in comparisons if not one.untested]
    speaking = [one for one in tested if one.favour is not None]
    favour = dict(zip(map(id, speaking), holm([doubled(one.favour or 0.0) for one in speaking]), strict=True))
    against = dict(zip(map(id, tested), holm([doubled(one.against) for one in tested]), strict=True))
    return [line_of(one, favour.get(id(one)), against.get(id(one), 1.0)) for one in comparisons]


def doubled(p: float) -> float:
    """Of either sign."""
    return min(1.0, 2 * p)


def line_of(one: Comparison, favour: float | None, against: float) -> Line:
    """With the side that the p say, and no other number."""
    if one.untested:
        return Line(one, None, 1.0, "not tested")
    side: Side = "against" if against <= 1 - LEVEL else "for" if favour is not None and favour <= 1 - LEVEL else "neither"
    return Line(one, favour, against, side)


def verdict(needs: Literal["all", "most", "any"], lines: Sequence[Line]) -> Verdict:
    """The rule for one SAE; a test that can only speak against a claim keeps no support from it while it is silent."""
    counted = [line for line in lines if line.favour is not None or line.side in ("not tested", "against")]
    ours, theirs = (sum(line.side == side for line in counted) for side in ("for", "against"))
    for_it = {"all": ours == len(counted), "most": 2 * ours > len(counted), "any": ours > 0}[needs]
    against_it = {"all": theirs > 0, "most": 2 * theirs >= len(counted), "any": theirs == len(counted)}[needs]
    return "undecided" if not counted else "contradicted" if against_it else "supported" if for_it else "undecided"


def why(lines: Sequence[Line], verdicts: Mapping[str, Verdict]) -> str:
    """Why nothing can be said of all: the SAEs differ, or some lines are on no side, or were not tested."""
    if len(set(verdicts.values())) == 1:
        return tally(lines)
    parts = []
    for one in dict.fromkeys(verdicts.values()):
        ons = [on for on, other in verdicts.items() if other == one]
        reason = f": {tally([line for line in lines if line.comparison.on in ons])}" if one == "undecided" else ""
        parts.append(f"{one} on {words(ons)}{reason}")
    return "; ".join(parts)


def tally(lines: Sequence[Line]) -> str:
    """How many lines are on each side, and why some have no test."""
    counts = {side: sum(line.side == side for line in lines) for side in ("for", "against", "neither", "not tested")}
    reasons = list(dict.fromkeys(line.comparison.untested for line in lines if line.comparison.untested))
    told = words(f"{count} {side}" for side, count in counts.items() if count)
    more = "; ..." * (len(reasons) > REASONS)
    return f"of {len(lines)} comparison{'s' * (len(lines) > 1)} {told}" + (f" ({'; '.join(reasons[:REASONS])}{more})" if reasons else "")
