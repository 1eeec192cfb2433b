"""What the SAEs of a suite are worth on fewer tokens, kept on the way or trained for less: whether more text changes which is best."""

from collections.abc import Sequence
from itertools import pairwise

from sae_bench_htopk import shorter
from sae_bench_htopk.board import Board
from sae_bench_htopk.markdown import Table, words
from sae_bench_htopk.saes import EV, Number

CHECKPOINTS = (
    "Explained variance of each SAE by its native selector, read at the k nearest to its own, as it was after a part of its training and at the end. "
    "A checkpoint is not what a shorter training comes to: its learning rate has not been taken down to 0 yet. So compare the rows of a column with each other."
)


def section(board: Board) -> list[str]:
    """Heading, words and tables; nothing if there are no SAEs of fewer tokens."""
    if not board.earlier:
        return []
    kept = [CHECKPOINTS, table(board), verdict(board)] if len(stages_of(board)) > 1 else []
    return ["## On fewer tokens", *shorter.section(board), *kept]


def stages_of(board: Board) -> Sequence[Board]:
    """The board after each share of its own training, itself the last."""
    return [stage for stage in (*board.earlier, board) if stage.tokens == board.tokens]


def table(board: Board) -> str:
    """Each SAE's explained variance by tokens."""
    stages = stages_of(board)
    shown = Table("SAE", "read at k", *(f"{stage.share:.3g} of the tokens" if stage.share < 1 else "all tokens" for stage in stages))
    for sae in board.saes:
        k = board.own_k(sae)
        before = [next((one for one in stage.everything if one.is_like(sae)), None) for stage in stages]
        if k is not None:
            shown.add(board.label(sae), str(k), *(None if one is None else one.shown(EV, k) for one in before))
    return shown.markdown()


def verdict(board: Board) -> str:
    """At which k another variant was ahead earlier, among the SAEs that both stages have; means alone, since no lead is tested here."""
    stages = stages_of(board)
    pairs = [(k, early, late, found) for early, late in pairwise(stages) for k in board.ks if (found := ahead(board, early, late, k))]
    turned = [
        f"at k = {k} {found[0]} was ahead after {early.share:.3g} of the tokens, {found[1]} after {'all' if late.share == 1 else f'{late.share:.3g}'}"
        for k, early, late, found in pairs
        if found[0] != found[1]
    ]
    if not pairs:
        return ""
    return (
        f"By means over seeds the variant that is ahead changes: {words(turned)}." if turned else "By means over seeds the variant that is ahead stays ahead."
    )


def ahead(board: Board, early: Board, late: Board, k: int) -> tuple[str, str] | None:
    """Which variant is best at k in two stages, among SAEs with the same seeds and a number in both; None if those are not of two variants."""
    both = [(one, other) for one in early.saes for other in late.saes if one.is_like(other) and one.rows.keys() == other.rows.keys()]
    both = [(one, other) for one, other in both if isinstance(one.at(EV, k), Number) and isinstance(other.at(EV, k), Number)]
    before, after = (stage.best(EV, k, [pair[place] for pair in both]) for place, stage in enumerate((early, late)))
    return None if before is None or after is None or before.next is None else (before.sae.variant, after.sae.variant)
