"""The part of a page on dictionary size: every compared number by the latents in use, at equal L0 and at an equal share of active latents."""

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Literal, NamedTuple

from sae_bench_htopk.board import Board
from sae_bench_htopk.captions import show
from sae_bench_htopk.contract import Missing
from sae_bench_htopk.figures import marked, name_of, scale_of
from sae_bench_htopk.lines import Lines
from sae_bench_htopk.markdown import Table, brief, fold, shown
from sae_bench_htopk.picture import Picture, Point
from sae_bench_htopk.saes import EV, SHOWN, Number, Sae

LATE = (
    "*Chosen among all*: k codes are chosen among all latents, and those on latents that are not in use are then dropped, so that fewer are left. "
    "In the other rows codes are chosen among the latents in use."
)


class SizeLine(NamedTuple):
    """One number by the number of latents in use; `late` chooses codes among all latents and then drops, an oracle was trained anew at each size."""

    label: str
    variant: str
    kind: Literal["single", "late", "oracle"]
    numbers: Mapping[int, Number | Missing]


def budgets(board: Board, relative: bool) -> dict[int, int]:
    """The k of each number of latents: the board's own at all of them, or the same share of the latents where that is a whole number."""
    sizes = sorted({size for sae in board.everything if not sae.control for size in (*sae.sizes(), sae.latents)})
    if not relative:
        return dict.fromkeys(sizes, board.anchor)
    return {size: board.anchor * size // board.latents for size in sizes if board.anchor * size % board.latents == 0}


def compared(board: Board) -> list[Sae]:
    """Of each variant, and of each whose weights it reads, the SAE of the budget nearest to the board's."""
    kinds = sorted({(sae.variant, sae.owner) for sae in board.sub_dictionaries})
    of_kind = ([sae for sae in board.sub_dictionaries if (sae.variant, sae.owner) == kind] for kind in kinds)
    return [min(saes, key=lambda sae: abs(math.log(sae.budget / board.anchor))) for saes in of_kind]


def lines(board: Board, column: str, relative: bool) -> list[SizeLine]:
    """One column by the number of latents in use, a line for each SAE and cut, and for each variant that was trained at several sizes."""
    ks, found = budgets(board, relative), []
    for sae in compared(board):
        for cut in sae.cuts():
            late = cut == "after"
            label = f"{board.label(sae)}, chosen among all" if late else board.label(sae)
            numbers = {size: sae.shown(column, k, latents=size, cut=cut) for size, k in ks.items()}
            found.append(SizeLine(label, sae.variant, "late" if late else "single", numbers))
    for variant in board.variants:
        trained = {
            size: saes for size in ks if (saes := [sae for sae in board.everything if (sae.variant, sae.latents, sae.control) == (variant, size, False)])
        }
        if len(trained) > 1:
            found.append(
                SizeLine(f"{variant}, trained at each size", variant, "oracle", {size: of(board, column, ks[size], saes) for size, saes in trained.items()})
            )
    return found


def of(board: Board, column: str, k: int, saes: Sequence[Sae]) -> Number | Missing:
    """The best of some SAEs at L0 = k; if none of them reaches it, the number of the one trained nearest to it, which is marked, or its reason."""
    if best := board.best(column, k, saes):
        return best.number
    return min(saes, key=lambda sae: abs(math.log(sae.budget / k))).shown(column, k)


def measured(board: Board) -> list[str]:
    """The compared columns that were measured on fewer than all latents."""
    every = {column: lines(board, column, False) + lines(board, column, True) for column in board.columns}
    return [column for column, found in every.items() if any(cut_down(board, line) for line in found)]


def cut_down(board: Board, line: SizeLine) -> bool:
    """Whether a line of one SAE has a number on fewer than all latents."""
    return line.kind != "oracle" and any(isinstance(number, Number) for size, number in line.numbers.items() if size < board.latents)


def table(board: Board, column: str, relative: bool) -> str:
    """One column by the number of latents in use."""
    ks = budgets(board, relative)
    made = Table("SAE", *(f"{size:,} latents, k = {k}" for size, k in ks.items()))
    for line in lines(board, column, relative):
        made.add(line.label, *(marked_seeds(board, line.numbers.get(size, Missing("no SAE was trained at that size"))) for size in ks))
    return made.markdown()


def marked_seeds(board: Board, number: Number | Missing) -> str | Missing:
    """A cell; a number of fewer seeds than the board's others says so, since costly columns may be measured on some alone."""
    if isinstance(number, Missing):
        return number
    fewer = f" ({number.seeds} seed{'s' * (number.seeds > 1)})" if number.seeds < board.seeds else ""
    return shown(number) + fewer


def tables(board: Board, drawn: Mapping[str, Picture]) -> list[str]:
    """Explained variance first; the other compared columns with their figures, and other orders, folded away."""
    late = LATE if any("after" in sae.cuts() for sae in compared(board)) else ""
    parts = ["Explained variance at equal L0:", table(board, EV, False), late, fold("At equal share of active latents", table(board, EV, True))]
    for column in (column for column in measured(board) if column != EV):
        title, better = SHOWN[column]
        both = "At equal L0:", table(board, column, False), "At equal share of active latents:", table(board, column, True)
        parts.append(fold(f"{title} ({better} is better)", "\n\n".join(filter(None, [show(board, drawn.get(file_of(column))), *both]))))
    return [*parts, fold("Latents kept in another order", orders(board))]


def orders(board: Board) -> str:
    """Explained variance on fewer latents when they are kept in other orders than by importance, all at one budget."""
    sizes = sorted({size for sae in board.sub_dictionaries for size in sae.sizes()})
    made = Table("SAE", "kept by", *(f"{size:,} latents, k = {board.anchor}" for size in sizes))
    for sae in board.sub_dictionaries:
        for rank in ["importance", *ranks] if (ranks := sae.ranks()) else []:
            made.add(board.label(sae), rank, *(marked_seeds(board, sae.shown(EV, board.anchor, latents=size, rank=rank)) for size in sizes))
    return made.markdown()


def file_of(column: str) -> str:
    """What the file of a column's figure is called."""
    return "dictionary" if column == EV else f"dictionary_{name_of(column)}"


def pictures(board: Board) -> Iterator[Lines]:
    """A figure for each column that has numbers of several sizes."""
    drawn = (picture(board, column) for column in board.columns)
    return (one for one in drawn if len({point.x for point in one.points}) > 1)


def picture(board: Board, column: str) -> Lines:
    """One column against the number of latents in use: at equal L0, and at equal L0 per latent; the later cut would lie on the same lines."""
    (title, better), points = SHOWN[column], list[Point]()
    for panel, relative in ((f"equal L0: k = {board.anchor}", False), (f"equal share: k = {board.anchor} · latents / {board.latents:,}", True)):
        points += marked([point for line in lines(board, column, relative) for point in points_of(line, panel)], better)
    alt = f"{title} ({better} is better) against the number of latents in use, at equal L0 and at equal share of active latents"
    return Lines(file_of(column), alt, "latents in use", column, better, tuple(points), scale_of(column, points))


def points_of(line: SizeLine, panel: str) -> list[Point]:
    """The numbers of a line that is drawn."""
    if line.kind == "late":
        return []
    found = [(size, number) for size, number in line.numbers.items() if isinstance(number, Number)]
    off = {size: f"L0 {n.l0:.4g}" if n.how == "off" else "" for size, n in found}
    return [Point(panel, line.label, line.variant, line.kind, float(size), n.mean, n.spread, off[size], False) for size, n in found]


def sentences(board: Board) -> list[str]:
    """Which variant is best on fewer latents."""
    return [sentence] if (sentence := fewer_latents(board)) else []


def fewer_latents(board: Board) -> str:
    """Which variant is best on each number of latents below the whole, and what training at that size gives."""
    parts, found = [], lines(board, EV, relative=False)
    for size in sorted({size for sae in board.sub_dictionaries for size in sae.sizes()}):
        numbers = [(line, n) for line in found if isinstance(n := line.numbers.get(size), Number) and n.how != "off"]
        cut = max((pair for pair in numbers if pair[0].kind == "single"), key=lambda pair: pair[1].mean, default=None)
        oracle = max((pair for pair in numbers if pair[0].kind == "oracle"), key=lambda pair: pair[1].mean, default=None)
        if cut:
            trained = f" (trained at that size: {oracle[0].variant}, {brief(oracle[1])})" if oracle else ""
            parts.append(f"on {size:,} latents **{cut[0].variant}**, {brief(cut[1])}{trained}")
    return f"**Fewer latents** at an L0 of {board.anchor}: best explained variance {'; '.join(parts)}." if parts else ""
