"""What twice the text, or any more of it, changes: the suite's SAEs beside the same ones that were trained on fewer tokens."""

import math
from collections.abc import Iterable
from dataclasses import replace
from itertools import islice
from statistics import median
from typing import NamedTuple

from sae_bench_htopk.board import Board
from sae_bench_htopk.contrasts import Result, verdicts
from sae_bench_htopk.declarations import family_of
from sae_bench_htopk.markdown import Table, words
from sae_bench_htopk.saes import EV, Number, Sae

STEADY = 0.02  # a relative change in the variance that is left unexplained below which more text is said to change little; ours
METHOD = (
    "Each SAE of all {latents:,} latents trained anew on fewer tokens, with a learning rate that falls to 0 at its own end, beside the one of this page, "
    "each by its native selector, read at the k nearest to its own at which both have a number, over the seeds that both have. Unexplained: the fraction "
    "of variance unexplained, 1 - EV."
)


class Change(NamedTuple):
    """One SAE on fewer tokens and on all: its explained variance, read at one k."""

    sae: Sae
    k: int
    before: Number
    after: Number

    def relative(self) -> float:
        """By what share the unexplained variance changes; NaN where there was none."""
        left = 1 - self.before.mean
        return (self.before.mean - self.after.mean) / left if left else math.nan


def section(board: Board) -> list[str]:
    """For each number of tokens words and a table; nothing if nothing was trained on fewer."""
    found = [(stage, changes(board, stage)) for stage in board.earlier if is_shorter(board, stage)]
    return [
        part
        for stage, some in found
        if some
        for part in (METHOD.format(latents=together(board, stage)[0].latents), sentence(board, stage, some), turned(board, stage), table(board, stage, some))
    ]


def is_shorter(board: Board, stage: Board) -> bool:
    """Whether the SAEs of a stage were trained to the end of a shorter training."""
    return 0 < stage.tokens < board.tokens and stage.share == board.share == 1


def together(board: Board, stage: Board) -> tuple[Board, Board]:
    """Both without the SAEs that the other has not, each on the seeds that it has in both."""
    pairs = [(sae, twin) for sae in board.everything for twin in stage.everything if sae.is_like(twin)]
    common = [(sae, twin, tuple(seeds)) for sae, twin in pairs if (seeds := sorted(sae.rows.keys() & twin.rows.keys()))]
    late = replace(board, everything=tuple(sae.on_seeds(seeds) for sae, _, seeds in common))
    return late, replace(stage, everything=tuple(twin.on_seeds(seeds) for _, twin, seeds in common))


def changes(board: Board, stage: Board) -> list[Change]:
    """Each SAE that both have, at the k nearest to its own at which both have a number: an L0 that training came to may reach no further than the next."""
    late, early = together(board, stage)
    found = []
    for sae, twin in ((sae, twin) for sae in late.saes for twin in early.everything if twin.is_like(sae)):
        numbers = ((k, twin.at(EV, k), sae.at(EV, k)) for k in sorted(sae.ks(), key=lambda k: abs(math.log(k / sae.budget))))
        both = (Change(sae, k, before, after) for k, before, after in numbers if isinstance(before, Number) and isinstance(after, Number))
        found += list(islice(both, 1))
    return found


def sentence(board: Board, stage: Board, some: Iterable[Change]) -> str:
    """By how much the unexplained variance changes, and whether that is little."""
    relative = [each.relative() for each in some if not math.isnan(each.relative())]
    if not relative:
        return ""
    least, most = (f"{100 * change:+.1f}%" for change in (max(relative), min(relative)))
    moved = [change for change in relative if abs(change) >= STEADY]
    how = (
        f"it changes by less than {STEADY:.0%} for each of these {len(relative)} SAEs"
        if not moved
        else f"it changes by {STEADY:.0%} or more for {len(moved)} of these {len(relative)} SAEs, so **nothing on this page is what endless training comes to**"
    )
    return (
        f"**{board.tokens / stage.tokens:.3g} times the tokens** ({board.tokens:,} instead of {stage.tokens:,}) change what is left unexplained by {least} to "
        f"{most}, {100 * median(relative):+.1f}% in the median: {how}."
    )


def turned(board: Board, stage: Board) -> str:
    """Which primary contrasts come out otherwise on fewer tokens; nothing if the suite declares none, or none could be tested on both."""
    if (family := family_of(board)) is None:
        return ""
    pairs = zip(*(verdicts(each, family) for each in reversed(together(board, stage))), strict=True)
    both = [(early, late) for early, late in pairs if early.corrected is not None and late.corrected is not None]
    other = [f"{late.words()} ({early.by()}, on fewer tokens; {late.by()}, on all)" for early, late in both if outcome(early) != outcome(late)]
    if not both:
        return ""
    found = (
        f"{len(other)} of the {len(both)} primary contrasts that could be tested on both come{'s' * (len(other) == 1)} out otherwise, with another sign or "
        f"significant on one alone: {'; '.join(other)}"
        if other
        else "the 1 primary contrast that could be tested on both comes out the same"
        if len(both) == 1
        else f"all {len(both)} primary contrasts that could be tested on both come out the same"
    )
    return f"Over the seeds that both have, {found}."


def outcome(result: Result) -> str:
    """Who is significantly ahead, or that nobody is."""
    if result.verdict != "significant" or result.lead is None:
        return "not significant"
    return f"{result.names[result.lead.value < 0]} ahead"


def table(board: Board, stage: Board, some: Iterable[Change]) -> str:
    """Both numbers and the change of each SAE."""
    made = Table("SAE", "read at k", "seeds", f"EV, {stage.tokens:,} tokens", f"EV, {board.tokens:,} tokens", "change in unexplained")
    for change in some:
        moved = None if math.isnan(change.relative()) else f"{100 * change.relative():+.1f}%"
        made.add(label(board, change.sae), str(change.k), words(change.sae.rows), change.before, change.after, moved)
    return made.markdown()


def label(board: Board, sae: Sae) -> str:
    """The name of an SAE on the page, whose copy on some seeds this is."""
    return next((board.label(other) for other in board.everything if other.is_like(sae)), sae.variant)
