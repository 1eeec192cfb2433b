"""What the SAEs of a suite were worth before their training ended: whether more text changes which is best."""

from itertools import pairwise

from sae_bench_htopk.board import Board
from sae_bench_htopk.markdown import Table, words
from sae_bench_htopk.saes import EV

CHECKPOINTS = (
    "Explained variance of each SAE by its native selector, read at the k nearest to its own, as it was after a part of its training and at the end. "
    "A checkpoint is no shorter training: its learning rate has not been taken down to 0 yet, so it is worth less than an SAE that was trained on as many "
    "tokens and no more. Compare the rows of a column with each other."
)


def section(board: Board) -> list[str]:
    """Heading, words and tables; nothing if nothing was kept earlier."""
    if not board.earlier:
        return []
    return ["## On fewer tokens", CHECKPOINTS, table(board), verdict(board)]


def table(board: Board) -> str:
    """Each SAE's explained variance by tokens."""
    stages = (*board.earlier, board)
    shown = Table("SAE", "read at k", *(f"{stage.share:.3g} of the tokens" if stage.share < 1 else "all tokens" for stage in stages))
    for sae in board.saes:
        k = board.own_k(sae)
        before = [next((one for one in stage.everything if one.is_like(sae)), None) for stage in stages]
        if k is not None:
            shown.add(board.label(sae), str(k), *(None if one is None else one.shown(EV, k) for one in before))
    return shown.markdown()


def verdict(board: Board) -> str:
    """At which k another variant was ahead earlier; means alone, since no lead is tested here."""
    stages = (*board.earlier, board)
    ahead = {k: [best.sae.variant if (best := stage.best(EV, k)) else "" for stage in stages] for k in board.ks}
    turned = [
        f"at k = {k} {one} was ahead after {early.share:.3g} of the tokens, {other} after {'all' if late.share == 1 else f'{late.share:.3g}'}"
        for k, names in ahead.items()
        for (one, other), (early, late) in zip(pairwise(names), pairwise(stages), strict=True)
        if one and other and one != other
    ]
    return (
        f"By means over seeds the variant that is ahead changes: {words(turned)}."
        if turned
        else "The variant that is ahead is the same at every k, by means over seeds."
    )
