"""What a page says in words: the questions of a reader who has a minute, answered from the numbers."""

from statistics import fmean, median

from sae_bench_htopk import claims_page, interpretable, nested, sizes
from sae_bench_htopk.board import Best, Board
from sae_bench_htopk.markdown import brief, rounded, words
from sae_bench_htopk.pairs import sure
from sae_bench_htopk.saes import COMPARED, DELTA, EV, SHOWN, Number, Sae

SEVERAL = 2  # budgets below its own at which an SAE must be comparable, to be called one for every budget


def in_short(board: Board) -> list[str]:
    """The questions of a reader who has a minute, answered from the numbers."""
    found = [winners(board, EV), *(winners(board, column) for column in board.columns if column == DELTA)]
    return [
        sentence
        for sentence in [
            *found,
            *sizes.sentences(board),
            *nested.sentences(board),
            *interpretable.sentences(board),
            one_for_all(board),
            away(board),
            selector(board),
            *claims_page.sentences(board),
            sure(board),
        ]
        if sentence
    ]


def winners(board: Board, column: str) -> str:
    """Which variant is best at each budget and by how much, budgets of one winner together."""
    bests = {k: best for k in board.ks if (best := board.best(column, k))}
    parts = []
    for variant in dict.fromkeys(best.sae.variant for best in bests.values()):
        won = {k: best for k, best in bests.items() if best.sae.variant == variant}
        parts.append(f"**{variant}** at k = {words(f'{k} ({brief(best.number)}, {ahead(best)})' for k, best in won.items())}")
    left = [f"{variant} at k = {words(ks)}" for variant in board.variants if (ks := [k for k in bests if k not in dict(board.envelope(variant, column))])]
    silent = f" Not compared, for want of readings at that L0: {'; '.join(left)}." if left else ""
    title, better = SHOWN[column]
    name = f"{column.partition('.')[0].replace('_', ' ')} ({title}, {better} is better)"
    return f"**Best {name}** at equal measured L0, all {board.latents:,} latents: {'; '.join(parts)}.{silent}" if parts else ""


def ahead(best: Best) -> str:
    """By how much a winner leads, as the headline has both."""
    return f"ahead by {rounded(abs(best.number.mean - best.next[1].mean), digits=2)}" if best.next else "alone"


def one_for_all(board: Board) -> str:
    """How far the SAE that best serves several budgets below its own, too, is from the best SAE trained at each; also in what interpretability has."""
    answers = []
    for sae in (sae for sae in board.saes if not sae.measured):  # an L0 that came out of training was no budget to serve
        gaps = behind(board, sae, EV)
        if sum(k < sae.budget for k in gaps) >= SEVERAL:
            answers.append((fmean(gap for gap, _ in gaps.values()), board.label(sae), sae, gaps))
    if not answers:
        return ""
    _, label, sae, gaps = max(answers, key=lambda answer: answer[:2])
    others = [
        f"{COMPARED[column][0]} at k = {words(found)} by {words(rounded(gap, digits=2, sign=True) for gap, _ in found.values())}"
        for column in interpretable.AGAINST_K
        if (found := behind(board, sae, column))
    ]
    return (
        f"**One SAE for every budget:** {label} comes nearest to the best of the others trained at each k. "
        f"Read at k = {words(gaps)}, its explained variance differs by {words(rounded(gap, digits=2, sign=True) for gap, _ in gaps.values())} "
        f"(from {words(variant for _, variant in gaps.values())}): one training instead of {len({sae.budget, *gaps})}."
        + (f" From the best of these it also differs in {'; '.join(others)} (not tested)." if others else "")
    )


def behind(board: Board, sae: Sae, column: str) -> dict[int, tuple[float, str]]:
    """At each k up to its own by how much an SAE differs from the best of the others trained there, and which variant that is."""
    gaps = {}
    for k in (k for k in board.ks if k <= sae.budget):
        own, best = sae.at(column, k), board.best(column, k, [other for other in board.saes if other.trained_at(k) and other is not sae])
        if isinstance(own, Number) and best:
            gaps[k] = (own.mean - best.number.mean, best.sae.variant)
    return gaps


def away(board: Board) -> str:
    """What it costs to read an SAE at another budget than its own."""
    costs = []
    for sae in board.saes:
        for k in (k for k in board.ks if k != sae.budget):
            rivals = [other for other in board.of(sae.variant) if other.trained_at(k)]
            own, best = sae.at(EV, k), board.best(EV, k, rivals)
            if isinstance(own, Number) and best:
                costs.append((best.number.mean - own.mean, sae, k, own.mean, best))
    if not costs:
        return ""
    cost, sae, k, value, best = max(costs, key=lambda found: found[0])
    middle = f"; {rounded(median(found[0] for found in costs))} in the median of {len(costs)} such readings" if len(costs) > 1 else ""
    return (
        f"**Reading away from the trained k** costs up to {rounded(cost)} of explained variance ({board.label(sae)} read at {k}: {rounded(value)}; "
        f"{board.label(best.sae)}: {rounded(best.number.mean)}){middle}."
    )


def selector(board: Board) -> str:
    """How much the selector alone moves explained variance."""
    moved = []
    for sae in board.saes:
        for k in sae.ks():
            row, threshold = sae.at(EV, k, select="row"), sae.at(EV, k, select="threshold")
            if isinstance(row, Number) and isinstance(threshold, Number):
                moved.append((abs(row.mean - threshold.mean), board.label(sae), k, row.mean, threshold.mean))
    if not moved:
        return ""
    most, label, k, by_row, by_threshold = max(moved)
    values = f"row {rounded(by_row)}, threshold {rounded(by_threshold)}"
    return f"**The selector alone** moves explained variance by up to {rounded(most)} ({label} at k = {k}: {values})."
