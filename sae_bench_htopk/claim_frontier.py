"""A test of papers' claims: over a range of sparsities no other SAE is better than this one, wherever it was trained."""

from dataclasses import dataclass

from sae_bench_htopk.board import Board
from sae_bench_htopk.evidence import Column, Comparison, Match, at_one_l0, title
from sae_bench_htopk.saes import Number, Sae


@dataclass(frozen=True)
class Frontier:
    """Which SAE, against all of which, in which columns; the range is every k up to the one that it was trained at."""

    one: Match
    others: tuple[Match, ...]
    columns: tuple[Column, ...]

    def wanted(self) -> str:
        """Both."""
        return f"{self.one.words()} and {' or '.join(match.words() for match in self.others)}"

    def evidence(self, board: Board) -> list[Comparison]:
        """A line for each SAE, column and k."""
        return [
            line
            for one in self.one.with_a_k(board)
            for column in self.columns
            for k in one.ks()
            if k <= one.budget and (line := self.at(board, one, column, k)) is not None
        ]

    def at(self, board: Board, one: Sae, column: str, k: int) -> Comparison | None:
        """Against the best of the others there; that it was picked from so many counts against the claim's contradiction."""
        rivals = [sae for match in self.others for sae in match.saes(board) if sae is not one and isinstance(sae.at(column, k), Number)]
        if not rivals or (best := board.best(column, k, rivals)) is None:
            return None
        line = at_one_l0(board.label(one), f"{title(column)} at k = {k}, over the best of {len(rivals)}: {board.label(best.sae)}", column, k, one, best.sae)
        picked = f"p against it times {len(rivals)}: the best was picked from so many" if len(rivals) > 1 else ""
        return line._replace(against=min(1.0, len(rivals) * line.against), note="; ".join(filter(None, [line.note, picked])))
