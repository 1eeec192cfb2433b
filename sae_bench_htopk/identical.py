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
    if one.rows.keys() != other.rows.keys():
        return False
    found = False
    for seed, rows in one.rows.items():
        for reading, mine in rows.items():
            theirs = other.rows[seed].get(reading)
            values = value_of(mine, column), value_of(theirs, column)
            if theirs is None or None in values:
                continue
            if values[0] != values[1] or mine.get("draws", {}).get(column) != theirs.get("draws", {}).get(column):
                return False
            found = True
    return found
