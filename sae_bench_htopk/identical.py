"""Whether two SAEs of a board are one and the same, by construction or in every number: between them nothing is compared."""

from sae_bench_htopk.board import Board
from sae_bench_htopk.saes import Sae, value_of

BY_CONSTRUCTION = "identical by construction"


def by_construction(board: Board, one: Sae, other: Sae) -> bool:
    """Whether the one reads the other's weights, or both a third's, so that on the whole dictionary they cannot differ."""
    owners = {sae: owner for sae, owner in board.borrowed}
    return one is other or owners.get(one, one) is owners.get(other, other)


def in_every_number(column: str, one: Sae, other: Sae) -> bool:
    """Whether all that both have of a column, at readings of the same seeds, is the same to the last bit, and their draws of documents too."""
    shared = [(rows[reading], other.rows[seed][reading]) for seed, rows in one.rows.items() for reading in rows if reading in other.rows.get(seed, {})]
    both = [(mine, theirs) for mine, theirs in shared if value_of(mine, column) is not None and value_of(theirs, column) is not None]
    same = (value_of(a, column) == value_of(b, column) and a.get("draws", {}).get(column) == b.get("draws", {}).get(column) for a, b in both)
    return bool(both) and one.rows.keys() == other.rows.keys() and all(same)
