"""The list of all published boards, each with its model, how much was trained, and which variant is best at each sparsity."""

from collections.abc import Sequence
from pathlib import Path

from sae_bench_htopk import records
from sae_bench_htopk.board import Board, assemble
from sae_bench_htopk.markdown import Table, brief, words
from sae_bench_htopk.page import GENERATED, page_of, trained
from sae_bench_htopk.saes import EV, SHOWN

EXPLANATION = (
    "Each board is made from the records in its folder alone. Suites that are demonstrations are not listed: nothing on their pages is a finding. "
    f"Headline: the variant with the best explained variance ({SHOWN[EV][0]}, higher is better) at a measured L0 of k, with all latents; "
    "how sure each lead is, the board says."
)
ODD = (TypeError, ValueError, AttributeError, LookupError, ArithmeticError)  # what a value of another kind than a page takes it for comes to
Line = tuple[str, ...]


def page(lines: Sequence[Line]) -> str:
    """The whole index."""
    table = Table("board", "model", "SAEs", "seeds", "headline")
    for line in lines:
        table.add(*line)
    return "\n\n".join([GENERATED, "# Leaderboards", EXPLANATION, table.markdown() if lines else "No board has been published yet."]) + "\n"


def line_in(folder: Path) -> Line | None:
    """The line of the board in a folder; None also for damaged records: their own page fails, not the index."""
    try:
        return line_of(assemble(records.read_all(folder)))
    except (records.RecordError, *ODD):
        return None


def line_of(board: Board) -> Line | None:
    """A board's line; None for a demonstration and for checkpoints alone."""
    if page_of(board).get("demonstration") or board.share < 1:
        return None
    title, path = page_of(board).get("title") or board.suite, str(board.records[0]["model"].get("path", "?"))
    return f"[{title}]({board.suite}.md)", path, str(trained(board)), str(board.seeds), headline(board)


def headline(board: Board) -> str:
    """Where each variant is best, the one that is best at the smallest k first."""
    places: dict[str, list[str]] = {}
    for k, best in board.winners(EV).items():
        places.setdefault(best.sae.variant, []).append(f"{k} ({brief(best.number)})")
    parts = [f"**{variant}** at k = {words(found)}" for variant, found in places.items()]
    parts += [f"nobody at {k}, where {sae.variant} with fewer codes does better ({brief(number)})" for k, (sae, number) in board.passed(EV).items()]
    said = "; ".join(parts)
    return said or "no SAE can be compared at any k"
