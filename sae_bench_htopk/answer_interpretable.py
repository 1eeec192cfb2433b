"""In one sentence: which variant is most interpretable by what needs no judge, and how many of these scores say nothing of training."""

from sae_bench_htopk.board import Board
from sae_bench_htopk.gaps import Gap, surely, winning
from sae_bench_htopk.interpretable import SCORES, futile
from sae_bench_htopk.label_tables import untrained
from sae_bench_htopk.markdown import rounded
from sae_bench_htopk.saes import COMPARED


def most_interpretable(board: Board) -> str:
    """At the k at which dictionary sizes are compared; each lead is over the best of the other variants."""
    k, parts, gaps = board.anchor, [], dict[object, Gap]()
    for column in (column for column in SCORES if column in COMPARED):
        if (best := board.best(column, k)) and best.next:
            name = SCORES[column][0]
            gaps[name] = winning(column, k, best.sae, best.next[0])
            parts.append(f"{name} **{best.sae.variant}** (by {rounded(gaps[name].value, digits=2)})")
    if not parts:
        return ""
    worse, told = futile(board, k)
    floor = f" {worse} of {told} scores are no better than the untrained SAE's." if told else ""
    floor = floor if untrained(board) else " There is no untrained SAE to compare with."
    return f"**Most interpretable without a judge** at an L0 of {k}: {', '.join(parts)}; {surely(gaps, 'in')}.{floor}"
