"""A test of papers' claims: one SAE, read at any k up to its own, is as good as those trained at that k, but for a margin (a test of non-inferiority)."""

from collections.abc import Mapping
from dataclasses import dataclass

from sae_bench_htopk.board import Board
from sae_bench_htopk.evidence import Comparison, Match, at_one_l0, check_columns, title
from sae_bench_htopk.saes import Sae


@dataclass(frozen=True)
class AsGood:
    """Which SAE, which ones trained at each k, and by how much it may fall behind in each column; papers name no margin, so these are ours."""

    one: Match
    trained: tuple[Match, ...]
    margins: Mapping[str, float]

    def __post_init__(self) -> None:
        """Margins are of compared columns."""
        check_columns(self.margins)

    def wanted(self) -> str:
        """Both."""
        return f"{self.one.words()} and {' or '.join(match.words() for match in self.trained)} trained at a k up to its own"

    def evidence(self, board: Board) -> list[Comparison]:
        """A line for each column, k and SAE trained there."""
        return [line for one in self.one.with_a_k(board) for column, margin in self.margins.items() for line in self.of_column(board, one, column, margin)]

    def of_column(self, board: Board, one: Sae, column: str, margin: float) -> list[Comparison]:
        """Those of one SAE and column."""
        pairs = [(other, k) for other in self.rivals(board, one) for k in one.ks() if other.trained_at(k) and k <= one.budget]
        whats = (f"{title(column)} at k = {k}, over {board.label(other)}, not worse by {margin:g}" for other, k in pairs)
        return [at_one_l0(board.label(one), what, column, k, one, other, margin) for what, (other, k) in zip(whats, pairs, strict=True)]

    def rivals(self, board: Board, one: Sae) -> list[Sae]:
        """All that were trained at some k, but for the SAE itself."""
        return [sae for match in self.trained for sae in match.saes(board) if sae is not one]
