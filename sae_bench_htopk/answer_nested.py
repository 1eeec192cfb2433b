"""In one sentence: whether training nested dictionaries beats cutting a plain one down, in what the page leads with."""

from collections.abc import Mapping

from sae_bench_htopk import nested
from sae_bench_htopk.board import Board
from sae_bench_htopk.gaps import Gap, gap, surely
from sae_bench_htopk.markdown import rounded, words
from sae_bench_htopk.saes import COMPARED, DELTA, EV, Number, Sae

SHORT = frozenset({"on its nested dictionaries", "on fewer latents", "with all latents"})  # the places that the sentence tells of


def nested_or_cut(board: Board) -> str:
    """Of the first pair that can be compared; the others stand in the detail."""
    return next((sentence for pair in nested.nested_and_pruned(board) if (sentence := against(board, *pair))), "")


def against(board: Board, one: Sae, other: Sae) -> str:
    """On nested dictionaries, or on fewer latents where nobody says which are, and with all; at an equal share of active latents."""
    ks = nested.within(board, one, other, True)
    parts = [f"{where} {told}" for where, sizes in nested.places(one, ks).items() if where in SHORT and (told := by(one, other, {s: ks[s] for s in sizes}))]
    if not parts:
        return ""
    pair = f"{board.label(one)} against {board.label(other)}"
    return f"**Nested or cut down?** {pair}, at an equal share of active latents: {'; '.join(parts)}."


def by(one: Sae, other: Sae, ks: Mapping[int, int]) -> str:
    """ahead by 0.019 to 0.043 in EV and 0.27 to 0.68 in ΔCE (all clear)."""
    found: dict[str, dict[object, Gap]] = {}
    for column in (EV, DELTA):
        for size, k in ks.items():
            mine, theirs = one.cut_to(size), other.cut_to(size)
            if isinstance(mine.at(column, k), Number) and isinstance(theirs.at(column, k), Number):
                found.setdefault(column, {})[f"{COMPARED[column][0]} on {size:,}"] = gap(column, k, mine, theirs)
    values = [one.value for gaps in found.values() for one in gaps.values()]
    if not values:
        return ""
    side = "ahead" if min(values) > 0 else "behind" if max(values) < 0 else "apart"
    parts = [f"{amounts([one.value for one in gaps.values()], side)} in {COMPARED[column][0]}" for column, gaps in found.items()]
    return f"{side} by {words(parts)} ({surely({place: one for gaps in found.values() for place, one in gaps.items()}, 'in')})"


def amounts(values: list[float], side: str) -> str:
    """From the least to the most; with signs where not all have one, plus being better."""
    signed = side == "apart"
    least, most = (min(values), max(values)) if signed else (min(map(abs, values)), max(map(abs, values)))
    ends = [rounded(value, digits=2, sign=signed) for value in (least, most)]
    return ends[0] if ends[0] == ends[1] else " to ".join(ends)
