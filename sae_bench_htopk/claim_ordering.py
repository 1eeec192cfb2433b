"""A test of papers' claims: an SAE that is cut down keeps more of its number if latents are kept in one order than in another."""

from dataclasses import dataclass
from itertools import combinations

from sae_bench_htopk.board import Board
from sae_bench_htopk.contract import Rank
from sae_bench_htopk.cut_down import Cut, on_fewer
from sae_bench_htopk.evidence import Column, Comparison, Match, title
from sae_bench_htopk.saes import Sae


@dataclass(frozen=True)
class Ordering:
    """Which SAE, in which columns, and the orders, the best first; each is compared with every one behind it."""

    one: Match
    columns: tuple[Column, ...]
    orders: tuple[Rank, ...]

    def __post_init__(self) -> None:
        """One order is ahead of nothing."""
        if len(self.orders) < 2:
            raise ValueError(f"orders: {', '.join(self.orders)} alone, wanted two at least")

    def wanted(self) -> str:
        """The SAE and its orders."""
        return f"{self.one.words()} cut down in {' and in '.join(self.orders)} order"

    def evidence(self, board: Board) -> list[Comparison]:
        """A line for each SAE, pair of orders, column and place."""
        return [line for one in self.one.with_a_k(board) for column in self.columns for line in self.of_column(board, one, column)]

    def of_column(self, board: Board, one: Sae, column: str) -> list[Comparison]:
        """At an equal share of active latents, and at the k that it was trained at."""
        lines = []
        for better, worse in combinations(self.orders, 2):
            for size in one.sizes():
                shares = [one.budget * size // one.latents] if one.budget * size % one.latents == 0 else []
                for k in [*shares, one.budget]:
                    mine, theirs = Cut(one, size, better), Cut(one, size, worse)
                    what = f"{title(column)} on {size:,} latents at k = {k}, {better} over {worse}"
                    lines.append(on_fewer(board.label(one), what, column, k, mine, theirs))
        return lines
