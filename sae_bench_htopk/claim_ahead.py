"""A test of papers' claims: one kind of SAE is better than another, at an equal measured L0 and on as many latents."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, NamedTuple, TypeAlias

from sae_bench_htopk import nested
from sae_bench_htopk.board import Board
from sae_bench_htopk.cut_down import Cut, on_fewer
from sae_bench_htopk.evidence import Column, Comparison, K, Match, partners, title
from sae_bench_htopk.saes import Sae

Where: TypeAlias = Literal["whole", "below its k", "nested", "fewer latents", "trained at that size"]
Share: TypeAlias = Literal["equal share", "equal L0", "both"]


class Place(NamedTuple):
    """A number of latents, None for all, and a k."""

    size: int | None
    k: int

    def words(self) -> str:
        """As a line under a claim has it."""
        return f"on {self.size:,} latents at k = {self.k}" if self.size else f"at k = {self.k}"


@dataclass(frozen=True)
class Ahead:
    """Which SAEs, in which columns, and where.

    `whole`: all latents, at the k that the first was trained at; `below its k`: at every smaller one. `nested`: on each nested dictionary but the
    last, of whichever of the two has them; `trained at that size`: the same against SAEs trained with so many latents. `fewer latents`: on every
    size that both were cut to.
    """

    one: Match
    others: tuple[Match, ...]
    columns: tuple[Column, ...]
    place: Where
    trained_at: K = "the same k"
    alike: tuple[str, ...] = ()  # further settings that a pair has in common
    l0: Share = "equal share"  # on fewer latents: as many codes for each latent, as many codes, or either

    def wanted(self) -> str:
        """Both, and what they share."""
        others = " or ".join(match.words() for match in self.others)
        return f"{self.one.words()} and {others} trained at {self.trained_at}" + (f", of the same {' and '.join(self.alike)}" if self.alike else "")

    def evidence(self, board: Board) -> list[Comparison]:
        """A line for each pair, column and place."""
        return [line for one in self.one.with_a_k(board) for column in self.columns for line in self.of_column(board, one, column)]

    def of_column(self, board: Board, one: Sae, column: str) -> list[Comparison]:
        """Those of one SAE and column."""
        lines = []
        for match, other, place in self.trials(board, one):
            what = f"{title(column)} {place.words()}, over {board.label(other)}{'' if match.rank == 'importance' else f' in {match.rank} order'}"
            mine, theirs = Cut(one, place.size, self.one.rank), Cut(other, place.size, match.rank)
            lines.append(on_fewer(board.label(one), what, column, place.k, mine, theirs))
        return lines

    def trials(self, board: Board, one: Sae) -> Iterator[tuple[Match, Sae, Place]]:
        """Whom to compare with, and where."""
        if self.place == "trained at that size":
            for place in self.shares(one, nested.shells(one)[:-1]):
                yield from ((m, sae, place) for m in self.others for sae in m.saes(board, place.size) if sae.trained_at(place.k))
            return
        for match, other in partners(board, one, self.others, self.alike, self.trained_at):
            yield from ((match, other, place) for place in self.places(one, other))

    def places(self, one: Sae, other: Sae) -> list[Place]:
        """Where two SAEs of one size are compared."""
        if self.place == "whole":
            return [Place(None, one.budget)]
        if self.place == "below its k":
            return [Place(None, k) for k in one.ks() if k < one.budget and k in other.ks()]
        ends = max(nested.shells(one), nested.shells(other), key=len)[:-1]
        return self.shares(one, ends if self.place == "nested" else [size for size in one.sizes() if size < one.latents])

    def shares(self, one: Sae, sizes: list[int]) -> list[Place]:
        """The k of each size; where an equal share of the latents is no whole number there is none."""
        equal = [Place(size, one.budget * size // one.latents) for size in sizes if one.budget * size % one.latents == 0]
        whole = [Place(size, one.budget) for size in sizes]
        return (equal if self.l0 != "equal L0" else []) + (whole if self.l0 != "equal share" else [])
