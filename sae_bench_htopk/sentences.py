"""What a page says in words: a sentence for each question of a reader who has a minute, and the same with every number for one who has more."""

from sae_bench_htopk import claims_page, interpretable, nested, sizes
from sae_bench_htopk.answer_best import by_size, by_sparsity
from sae_bench_htopk.answer_budgets import away, one_for_all, rivals, serving
from sae_bench_htopk.answer_costs import how_sure, what_it_cost
from sae_bench_htopk.answer_interpretable import most_interpretable
from sae_bench_htopk.answer_nested import nested_or_cut
from sae_bench_htopk.board import Best, Board
from sae_bench_htopk.gaps import Gap, gap, surely
from sae_bench_htopk.leads import lead
from sae_bench_htopk.markdown import brief, rounded, words
from sae_bench_htopk.pairs import sure, verdict
from sae_bench_htopk.saes import COMPARED, DELTA, EV, SHOWN, Number, Sae


def in_short(board: Board) -> list[str]:
    """One sentence for each question, as far as the records can answer it."""
    found = [
        by_sparsity(board, EV),
        by_sparsity(board, DELTA) if DELTA in board.columns else "",
        by_size(board),
        one_for_all(board),
        away(board),
        nested_or_cut(board),
        most_interpretable(board),
        *claims_page.sentences(board),
        how_sure(board),
        what_it_cost(board),
    ]
    return [sentence for sentence in found if sentence]


def in_detail(board: Board) -> list[str]:
    """The same questions with every number, and what each was tested for."""
    found = [
        *(winners(board, column) for column in (EV, DELTA) if column in board.columns),
        *sizes.sentences(board),
        *nested.sentences(board),
        *interpretable.sentences(board),
        from_each(board),
        selector(board),
        sure(board),
    ]
    return [sentence for sentence in found if sentence]


def winners(board: Board, column: str) -> str:
    """Which variant is best at each budget and by how much, budgets of one winner together."""
    bests, parts = board.winners(column), []
    for variant in dict.fromkeys(best.sae.variant for best in bests.values()):
        won = {k: best for k, best in bests.items() if best.sae.variant == variant}
        parts.append(f"**{variant}** at k = {words(f'{k} ({brief(best.number)}, {ahead(column, k, best)})' for k, best in won.items())}")
    left = [f"{variant} at k = {words(ks)}" for variant in board.variants if (ks := [k for k in bests if k not in dict(board.envelope(variant, column))])]
    silent = f" Not compared, for want of readings at that L0: {'; '.join(left)}." if left else ""
    passed = [f"at k = {k} {board.label(sae)} has {brief(number)} at an L0 of {rounded(number.l0 or 0.0)}" for k, (sae, number) in board.passed(column).items()]
    silent += f" Nobody is the best where one that has not so many codes to give is better: {'; '.join(passed)}." if passed else ""
    title, better = SHOWN[column]
    name = f"{column.partition('.')[0].replace('_', ' ')} ({title}, {better} is better)"
    return f"**Best {name}** at equal measured L0, all {board.latents:,} latents: {'; '.join(parts) or 'nobody'}.{silent}" if parts or passed else ""


def ahead(column: str, k: int, best: Best) -> str:
    """By how much a winner leads at an L0 of exactly k, where a number within 2% of it may stand beside."""
    if not best.next:
        return "alone"
    value = gap(column, k, best.sae, best.next[0]).value
    return f"{'ahead' if value >= 0 else 'at exactly this L0 behind'} by {rounded(abs(value), digits=2)}"


def from_each(board: Board) -> str:
    """How far the SAE that best serves every budget is from each of those trained at one, with what each difference is not clear of."""
    if (found := serving(board)) is None:
        return ""
    parts = []
    for k, other in found.rivals.items():
        one = lead(EV, k, found.sae, other)
        ahead = one if one.value >= 0 else lead(EV, k, other, found.sae)
        parts.append(f"{rounded(one.value, digits=2, sign=True)} from {board.label(other)} at k = {k} ({verdict(ahead)})")
    others = [f"{COMPARED[column][0]} {told}" for column in interpretable.AGAINST_K if (told := elsewhere(board, found.sae, column))]
    also = f" From the best of the others in each of these, + being better: {'; '.join(others)}." if others else ""
    return f"**One SAE for every budget:** {board.label(found.sae)} differs in explained variance by {', '.join(parts)}.{also}"


def elsewhere(board: Board, sae: Sae, column: str) -> str:
    """By how much it differs in another number at each budget from the best of those trained there."""
    gaps: dict[object, Gap] = {k: gap(column, k, sae, other) for k, other in rivals(board, sae, column).items()}
    values = words(rounded(one.value, digits=2, sign=True) for one in gaps.values())
    return f"by {values} at k = {words(gaps)} ({surely(gaps)})" if gaps else ""


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
