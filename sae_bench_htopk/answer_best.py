"""In one sentence each: which variant is best at every sparsity, and on every size of dictionary."""

from collections.abc import Mapping, Sequence

from sae_bench_htopk.board import Board
from sae_bench_htopk.gaps import Gap, gap, listed, reach, surely, winning
from sae_bench_htopk.markdown import rounded, words
from sae_bench_htopk.saes import EV, SHOWN, Number, Sae
from sae_bench_htopk.sizes import budgets, compared


def by_sparsity(board: Board, column: str) -> str:
    """The winner at each budget, and by how much it leads the next variant; empty if nothing has the number."""
    bests = board.winners(column)
    if not bests and not board.passed(column):
        return ""
    leads: dict[object, Gap] = {k: winning(column, k, best.sae, best.next[0]) for k, best in bests.items() if best.next}
    alone = [k for k, best in bests.items() if not best.next]
    title, better = SHOWN[column]
    name = column.partition(".")[0].replace("_", " ")
    ahead = f" Lead over the next variant: {reach([one.value for one in leads.values()])}, {surely(leads)}." if leads else ""
    rivals = f" No rival at {words(alone)}." if alone else ""
    won = grouped({k: best.sae.variant for k, best in bests.items()}, "at") or "nobody"
    return f"**Best {name}** ({title}, {better} is better) by measured L0, all {board.latents:,} latents: {won}.{ahead}{rivals}{fewer(board, column)}"


def fewer(board: Board, column: str) -> str:
    """Where nobody is best, since one that has not so many codes to give is better."""
    found = [f" Nobody at {k}: {sae.variant} does better with {rounded(number.l0 or 0.0)} codes." for k, (sae, number) in board.passed(column).items()]
    return "".join(found)


def grouped(winners: Mapping[int, str], where: str) -> str:
    """**topk** at 2 and 4; **batchtopk** at 8."""
    variants = dict.fromkeys(winners.values())
    return "; ".join(f"**{variant}** {where} {words(f'{place:,}' for place, name in winners.items() if name == variant)}" for variant in variants)


def by_size(board: Board) -> str:
    """The best SAE cut down to each number of latents below the whole, and what one that was trained at that size has over it; at equal L0."""
    k, sizes = board.anchor, [size for size in budgets(board, relative=False) if size < board.latents]
    cut, trained = ({size: found for size in sizes if (found := ranked(board, saes(board, size), k))} for saes in (cut_down, trained_at))
    if not cut:
        won = grouped({size: found[0].variant for size, found in trained.items()}, "at")
        return f"**Smaller dictionaries** at an L0 of {k}, trained at that size: best explained variance {won}." if won else ""
    nexts: dict[object, Gap] = {f"{size:,}": winning(EV, k, found[0], found[1]) for size, found in cut.items() if len(found) > 1}
    ahead = f" (by {reach([one.value for one in nexts.values()])}, {surely(nexts, 'on')})" if nexts else ""
    anew: dict[object, Gap] = {f"{size:,}": gap(EV, k, found[0], cut[size][0]) for size, found in trained.items() if size in cut}
    names = words(dict.fromkeys(trained[size][0].variant for size in trained if size in cut))
    where = "that size" if len(anew) == len(cut) else words(anew)
    over = f"; training at {where} instead ({names}): {listed([one.value for one in anew.values()])}, {surely(anew, 'at')}" if anew else ""
    won = grouped({size: found[0].variant for size, found in cut.items()}, "on")
    return f"**Fewer latents** at an L0 of {k}: best explained variance, cut down from {board.latents:,}, {won}{ahead}{over}."


def cut_down(board: Board, size: int) -> list[Sae]:
    """The SAEs that are compared on fewer latents, as if they had no more than these."""
    return [sae.cut_to(size) for sae in compared(board) if size in sae.sizes() and "before" in sae.cuts()]


def trained_at(board: Board, size: int) -> list[Sae]:
    """The SAEs that were trained with so many latents."""
    return [sae for sae in board.everything if sae.latents == size and not sae.control]


def ranked(board: Board, saes: Sequence[Sae], k: int) -> list[Sae]:
    """Those that reach an L0 of k, the best of each variant, best first."""
    found = [(number.mean, sae) for sae in saes if isinstance(number := sae.at(EV, k), Number)]
    best: dict[str, Sae] = {}
    for _, sae in sorted(found, key=lambda pair: -pair[0]):
        best.setdefault(sae.variant, sae)
    return list(best.values())
