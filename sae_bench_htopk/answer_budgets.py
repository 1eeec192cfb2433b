"""In one sentence each: whether one SAE can serve every budget, and what it costs to read an SAE at another budget than its own."""

from statistics import fmean, median
from typing import NamedTuple

from sae_bench_htopk.board import Board
from sae_bench_htopk.gaps import Gap, gap, listed, surely
from sae_bench_htopk.markdown import rounded, words
from sae_bench_htopk.saes import EV, Number, Sae

SEVERAL = 2  # budgets below its own at which an SAE must be comparable, to be called one for every budget


class Serving(NamedTuple):
    """One SAE against the best of the others trained at each k up to its own."""

    sae: Sae
    rivals: dict[int, Sae]


def rivals(board: Board, sae: Sae, column: str) -> dict[int, Sae]:
    """The best of the other SAEs that were trained at each k up to its own, where both have the number."""
    found = {}
    for k in (k for k in board.ks if k <= sae.budget):
        best = board.best(column, k, [other for other in board.saes if other.trained_at(k) and other is not sae])
        if isinstance(sae.at(column, k), Number) and best:
            found[k] = best.sae
    return found


def serving(board: Board) -> Serving | None:
    """The SAE that comes nearest to those trained at each k, on average; one whose L0 came out of training had no budget to serve."""
    found = [Serving(sae, rivals(board, sae, EV)) for sae in board.saes if not sae.measured]
    found = [one for one in found if sum(k < one.sae.budget for k in one.rivals) >= SEVERAL]
    return max(found, key=lambda one: (fmean(gap(EV, k, one.sae, other).value for k, other in one.rivals.items()), board.label(one.sae)), default=None)


def one_for_all(board: Board) -> str:
    """How far that SAE is from the best of the others at each k, and how many trainings it stands for."""
    if (found := serving(board)) is None:
        return ""
    gaps: dict[object, Gap] = {k: gap(EV, k, found.sae, other) for k, other in found.rivals.items()}
    others = words(dict.fromkeys(other.variant for other in found.rivals.values()))
    trainings = len({found.sae.budget, *found.rivals})
    return (
        f"**One SAE for every budget:** {board.label(found.sae)} differs by {listed([one.value for one in gaps.values()])} in explained variance from the "
        f"best of the others trained at k = {words(gaps)} ({others}; {surely(gaps)}): one training for {trainings}."
    )


def away(board: Board) -> str:
    """The median and the most that reading at another k costs, against the best SAE of the same variant that was trained there."""
    costs: list[tuple[Gap, Sae, int, Sae]] = []
    for sae in board.saes:
        for k in (k for k in board.ks if k != sae.budget):
            best = board.best(EV, k, [other for other in board.of(sae.variant) if other.trained_at(k)])
            if isinstance(sae.at(EV, k), Number) and best:
                costs.append((gap(EV, k, best.sae, sae), sae, k, best.sae))
    if not costs:
        return ""
    most, sae, k, rival = max(costs, key=lambda found: found[0].value)
    middle = f"{rounded(median(found.value for found, *_ in costs))} in the median of {len(costs)} readings, " if len(costs) > 1 else ""
    return (
        f"**Reading away from the trained k** costs explained variance: {middle}{rounded(most.value)} at most ({board.label(sae)} read at {k}, against "
        f"{board.label(rival)}: {surely({k: most})})."
    )
