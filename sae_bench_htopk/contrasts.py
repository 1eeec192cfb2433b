"""The primary contrasts of a suite, tested on its board under Holm's correction: all else on a page is exploratory."""

from collections.abc import Sequence
from typing import Literal, NamedTuple

from sae_bench_htopk.board import Board
from sae_bench_htopk.contract import Missing
from sae_bench_htopk.declarations import Family, Pair, family_of
from sae_bench_htopk.identical import BY_CONSTRUCTION, by_construction, in_every_number
from sae_bench_htopk.leads import Lead, lead, sign
from sae_bench_htopk.markdown import Table, rounded
from sae_bench_htopk.saes import COMPARED, Number, Sae
from sae_bench_htopk.significance import holm, probability

ALPHA = 0.05  # a corrected p of at most this is significant
NOTE = (
    "Difference: by how much the first is better than the second, whichever way is better, at a measured L0 of exactly k (~: interpolated in log L0), "
    "± half its 95% interval, the widest of those over documents, over seeds, and over both together. Where an SAE has no readings on both sides of k, both "
    "are taken as they were read, the two L0s stand behind the difference, and the most that they could make of it is taken from it before it is tested. "
    "Selectors: each SAE is read by its native one; where these are two, the difference may be theirs, so beside them stands what it is by either one alone, "
    "as far as both were read so, at k as elsewhere on the page and not tested. "
    "p: one-sided tests by each of these sources, of which the largest p counts, doubled, since either sign was possible; then corrected by Holm's "
    "step-down for all {count} declared contrasts, those that could not be tested among them. Significant: a corrected p of at most 0.05. All SAEs see one "
    "stream of training text, whose own variance is in none of this. The records say that the suite declares these contrasts, not that it did before "
    "anything was measured."
)


class Result(NamedTuple):
    """What came of one contrast; `pair` tells it from others, on other boards too."""

    pair: Pair
    names: tuple[str, str]  # of its two SAEs on this board
    lead: Lead | None  # of the first over the second; None where they cannot be compared
    p: float | None  # two-sided, not corrected; None if it was not tested
    corrected: float | None  # by Holm over the whole family
    reason: str = ""  # why it was not tested
    selectors: str = ""  # by which the two are read

    @property
    def verdict(self) -> Literal["significant", "not significant", "not tested"]:
        """Under Holm."""
        return "not tested" if self.corrected is None else "significant" if self.corrected <= ALPHA else "not significant"

    @property
    def title(self) -> str:
        """The column in short."""
        return COMPARED[self.pair.column][0] if self.pair.column in COMPARED else self.pair.column

    def words(self) -> str:
        """The contrast and where it is read."""
        size = f" on {self.pair.latents:,} latents" if self.pair.latents else ""
        return f"{' against '.join(self.names)} in {self.title} at k = {self.pair.k}{size}"

    def by(self) -> str:
        """By how much the first is ahead or behind, and how likely noise alone is to give as much; why it was not tested, if so."""
        if self.lead is None or self.corrected is None:
            return self.reason
        p = probability(self.corrected)
        side = "ahead" if self.lead.value > 0 else "behind"
        return f"{side} by {rounded(abs(self.lead.value), self.lead.half() or None, digits=2)}, p {p if p[0] == '<' else f'= {p}'}"


def verdicts(board: Board, family: Family | None = None) -> list[Result]:
    """What comes of each contrast of a family, by default of the one that the board's own records declare; nothing if there is none."""
    declared = family or family_of(board)
    found = [tested(board, pair) for pair in declared.pairs] if declared else []
    corrected = holm([1.0 if result.p is None else result.p for result in found])
    return [result if result.p is None else result._replace(corrected=p) for result, p in zip(found, corrected, strict=True)]


def tested(board: Board, pair: Pair) -> Result:
    """One contrast, not corrected yet."""
    sides = [side.on(board) for side in (pair.one, pair.other)]
    one, other = (side.words() if isinstance(sae, Missing) else board.label(sae) for side, sae in zip((pair.one, pair.other), sides, strict=True))
    compared = comparable(board, pair, sides)
    if isinstance(compared, Missing):
        return Result(pair, (one, other), None, None, None, compared.reason)
    found, by = lead(pair.column, pair.k, *compared), selectors(pair, *compared)
    if missing := found.untested():
        return Result(pair, (one, other), found, None, None, "; ".join(dict.fromkeys(missing.values())), by)
    ahead = found if found.value >= 0 else lead(pair.column, pair.k, *reversed(compared))
    return Result(pair, (one, other), found, min(1.0, 2 * ahead.p()), None, selectors=by)


def comparable(board: Board, pair: Pair, sides: Sequence[Sae | Missing]) -> tuple[Sae, Sae] | Missing:
    """The two SAEs as the contrast reads them, or why there is nothing to compare."""
    if pair.column not in COMPARED:
        return Missing(f"{pair.column} is no number that SAEs are compared by")
    if absent := [side.reason for side in sides if isinstance(side, Missing)]:
        return Missing("; ".join(absent))
    one, other = (side for side in sides if isinstance(side, Sae))
    if by_construction(board, one, other) and (one is other or pair.latents in (None, one.latents)):
        return Missing(BY_CONSTRUCTION)
    cut = [sae if pair.latents is None else sae.cut_to(pair.latents) for sae in (one, other)]
    numbers = {board.label(sae): as_read.at(pair.column, pair.k) for sae, as_read in zip((one, other), cut, strict=True)}
    if absent := [f"{label}: {number.reason}" for label, number in numbers.items() if not isinstance(number, Number)]:
        return Missing("; ".join(absent))
    return Missing("identical in every number") if in_every_number(pair.column, *cut) else (cut[0], cut[1])


def section(board: Board) -> list[str]:
    """Heading, the suite's reason for these, the table, and how they were tested; nothing if no record declares any."""
    if not (family := family_of(board)):
        return []
    found = verdicts(board, family)
    nothing = "" if any(result.corrected is not None for result in found) else "None of them could be tested, so nothing on this page is significant."
    return ["## Primary contrasts", family.why, table(found), nothing, NOTE.format(count=len(found)), family.disagreement()]


def table(found: Sequence[Result]) -> str:
    """A row for each contrast."""
    made = Table("contrast", "in", "k", "latents", "difference", "p (Holm)", "verdict", "selectors")
    for result in found:
        pair, p = result.pair, Missing(result.reason) if result.corrected is None else probability(result.corrected)
        size = f"{pair.latents:,}" if pair.latents else "all"
        difference = Missing(result.reason) if result.lead is None else amount(result.lead)
        said = f"not tested: {result.reason}" if result.corrected is None else result.verdict
        made.add(" against ".join(result.names), result.title, str(pair.k), size, difference, p, said, result.selectors)
    return made.markdown()


def selectors(pair: Pair, one: Sae, other: Sae) -> str:
    """By which selector each is read; where these are two, the difference by either one alone, as far as both were read so."""
    if one.native == other.native:
        return f"both {one.native}"
    alike = []
    for select in (one.native, other.native):
        mine, theirs = (sae.at(pair.column, pair.k, select=select) for sae in (one, other))
        if isinstance(mine, Number) and isinstance(theirs, Number):
            alike.append(f"both {select} {rounded(sign(pair.column) * (mine.mean - theirs.mean), digits=2, sign=True)}")
        else:
            alike.append(f"both {select} not read")
    return f"{one.native} against {other.native}: {', '.join(alike)}"


def amount(found: Lead) -> str:
    """A difference with its sign, half its interval as far as its noise is known, and both L0s where they are not one."""
    half = found.half() or None
    noise = f" ±{rounded(half, half)}" if half else ""
    l0s = f" (L0 {rounded(found.l0s[0], digits=4)} against {rounded(found.l0s[1], digits=4)})" if found.l0s else ""
    return f"{'~' if found.interpolated else ''}{rounded(found.value, half, digits=2, sign=True)}{noise}{l0s}"


def summary(board: Board) -> str:
    """In one sentence what came of the primary contrasts, and what all else is."""
    if not (found := verdicts(board)):
        return "No primary contrasts are declared, so everything on this page is exploratory."
    of = {verdict: [result for result in found if result.verdict == verdict] for verdict in ("significant", "not significant", "not tested")}
    declared = f"{len(found)} primary contrast{'s' * (len(found) > 1)} declared in the suite"
    rest = "Everything else on this page is exploratory."
    if len(of["not tested"]) == len(found):
        return f"Of the {declared} none could be tested. {rest}"
    told = "; ".join(f"{result.words()} ({result.by()})" for result in of["significant"])
    counts = [f"{len(of['significant']) or 'none'} {'is' if len(of['significant']) < 2 else 'are'} significant under Holm{f': {told}' if told else ''}"]
    counts += [f"{len(of['not significant'])} not"] * bool(of["not significant"]) + [f"{len(of['not tested'])} could not be tested"] * bool(of["not tested"])
    return f"Of the {declared}, {'; '.join(counts)}. {rest}"
