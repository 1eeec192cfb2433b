"""In one sentence: which variant is most interpretable by what needs no judge, and how many of these scores say nothing of training."""

from sae_bench_htopk.board import Board
from sae_bench_htopk.gaps import Gap, surely, winning
from sae_bench_htopk.interpretable import JUDGED, OF_JUDGED, SCORES, bests, futile
from sae_bench_htopk.label_tables import untrained
from sae_bench_htopk.markdown import rounded, words
from sae_bench_htopk.saes import Number, Sae


def most_interpretable(board: Board) -> str:
    """At the k at which dictionary sizes are compared; each lead is over the best of the other variants."""
    k, parts, nobody, gaps = board.anchor, [], [], dict[object, Gap]()
    for column, (best, other), vain in bests(board, k):
        name = SCORES[column][0]
        if vain:
            nobody.append(name)
            continue
        gaps[name] = winning(column, k, best, other)
        parts.append(f"{name} **{board.label(best)}** (by {rounded(gaps[name].value, digits=2)}{judged(best, column, k)})")
    if not parts + nobody:
        return ""
    worse, told = futile(board, k)
    floor = f" {worse} of {told} scores are no better than the untrained SAE's." if told else ""
    floor = floor if untrained(board) else " There is no untrained SAE to compare with."
    said = [f"{', '.join(parts)}; {surely(gaps, 'in')}"] if parts else []
    said += [f"in {words(nobody)} even the best is not clearly better than the untrained SAE"] if nobody else []
    return f"**Most interpretable without a judge** at an L0 of {k}: {'; '.join(said)}.{floor}"


def judged(sae: Sae, column: str, k: int) -> str:
    """Of how many of its latents a score speaks, where it speaks of those alone that fire often enough."""
    share = sae.read(JUDGED, k)
    return f", {share.mean:.0%} of its latents judged" if column in OF_JUDGED and isinstance(share, Number) else ""
