"""The part of a page on the papers' claims: a line for each with its verdict, the comparisons behind it, and a sentence for the top."""

from collections.abc import Sequence

from sae_bench_htopk.board import Board
from sae_bench_htopk.contract import Missing
from sae_bench_htopk.judging import RULE, Judged, Line, judged, tally
from sae_bench_htopk.markdown import Table, fold, words
from sae_bench_htopk.significance import probability

TITLE, ANCHOR = "## What the papers claim", "what-the-papers-claim"


def section(board: Board) -> list[str]:
    """Heading, rule, the line of each claim, and its comparisons folded away; nothing on a board of controls alone."""
    if not board.saes:
        return []
    found = judged(board)
    papers = words(f"arXiv:{paper}" for paper in sorted({one.claim.paper for one in found}))
    return [TITLE, f"Claims of {papers}: {counts(board, found)}", RULE, summary(found), *(details(one) for one in found if one.lines)]


def sentences(board: Board) -> list[str]:
    """How many claims came out which way, and how the most important did."""
    if not board.saes:
        return []
    found = judged(board)
    by = {verdict: [one.claim.short for one in found if one.verdict == verdict and one.claim.top] for verdict in ("supported", "contradicted", "undecided")}
    named = "; ".join(f"{verdict}: {words(shorts)}" for verdict, shorts in by.items() if shorts)
    told = f" {named[0].upper()}{named[1:]}." if named else ""
    return [f"**The papers' claims** ([each with its test](#{ANCHOR})): of {len(found)}, here {tally_of(found)}.{told}"]


def counts(board: Board, found: Sequence[Judged]) -> str:
    """Of so many claims, how many came out which way."""
    one_seed = " With one seed none can be decided." if board.seeds < 2 else ""
    return f"of {len(found)}, on this model, text and budget {tally_of(found)}.{one_seed}"


def tally_of(found: Sequence[Judged]) -> str:
    """8 supported, 10 contradicted and so on."""
    number = {verdict: sum(one.verdict == verdict for one in found) for verdict in ("supported", "contradicted", "undecided", "untested here")}
    return words(f"{count} {verdict.partition(' ')[0]}" for verdict, count in number.items())


def summary(found: Sequence[Judged]) -> str:
    """The claims with their sources, verdicts and what decided them."""
    table = Table("claim", "source", "verdict", "what decided it")
    for one in found:
        claim = one.claim
        source = f"[arXiv:{claim.paper}](https://arxiv.org/abs/{claim.paper}), {claim.where}; read in: {claim.wording}"
        table.add(claim.statement, source, f"**{one.verdict}**", deciding(one))
    return table.markdown()


def deciding(one: Judged) -> str:
    """In one phrase the numbers that decided it, or why nothing did."""
    if one.verdict in ("undecided", "untested here"):
        return one.reason
    side = "for" if one.verdict == "supported" else "against"
    said = [line for line in one.lines if line.side == side]
    line = max(said, key=lambda line: line.favour or 0.0) if side == "for" else min(said, key=lambda line: line.against)
    p = line.favour if side == "for" else line.against
    which = "the least sure" if side == "for" else "the surest against it"
    on = f"{line.comparison.on}: " if len(one.verdicts) > 1 else ""
    return f"{tally(one.lines)}; {which}: {on}{line.comparison.what}, {line.comparison.shown}, p {probability(p)}"


def details(one: Judged) -> str:
    """The folded table of one claim's comparisons."""
    table = Table("SAE", "comparison", "number, ± half its 95% interval", "p for", "p against", "says", "note")
    for line in one.lines:
        against = None if line.side == "not tested" else line.against
        table.add(line.comparison.on, line.comparison.what, shown(line), probability(line.favour), probability(against), *said(line))
    verdicts = f"\n\nBy SAE: {'; '.join(f'{on}: {verdict}' for on, verdict in one.verdicts.items())}." if len(one.verdicts) > 1 else ""
    needs = {"all": "every comparison", "most": "most comparisons", "any": "any comparison"}[one.claim.needs]
    but = ", but for those that can speak against it alone, while they are silent" if any(against_alone(line) for line in one.lines) else ""
    return fold(f"{one.claim.short}: {one.verdict}", f"{one.claim.statement} Wanted for it: {needs}{but}.\n\n{table.markdown()}{verdicts}")


def against_alone(line: Line) -> bool:
    """Whether a comparison was tested and has no p for its claim."""
    return line.favour is None and line.side != "not tested"


def shown(line: Line) -> str:
    """The number; where there is none, the reason stands at the end of its line."""
    return "" if isinstance(line.comparison.shown, Missing) else line.comparison.shown


def said(line: Line) -> tuple[str, str]:
    """The side, and what is to be known of the test."""
    return line.side, line.comparison.untested or line.comparison.note
