"""In words, whether training nested dictionaries beats cutting a plain one down: where the two differ in little else, and by more than the noise."""

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from sae_bench_htopk import leads, plugins
from sae_bench_htopk.board import Board
from sae_bench_htopk.contract import Variant
from sae_bench_htopk.markdown import rounded, words
from sae_bench_htopk.saes import COMPARED, Number, Sae
from sae_bench_htopk.sizes import budgets, compared, measured

ALIKE = ("latent_purity.intruder", "latent_purity.monosemanticity")  # progressive coding says of pruned SAEs that they are more interpretable


class Gain(NamedTuple):
    """How much better the nested SAE is on so many latents, and what that is not clear of, or was not tested for."""

    value: float
    doubts: tuple[str, ...]

    def side(self) -> str:
        """In a word, which way."""
        side = "better" if self.value > 0 else "worse" if self.value < 0 else "equal"
        return side if self.doubts else f"clearly {side}"


Gains = Mapping[str, Mapping[int, Gain]]  # column -> number of latents -> gain, where the two can be compared


def sentences(board: Board) -> list[str]:
    """One for each pair."""
    return [sentence for pair in nested_and_pruned(board) if (sentence := against(board, *pair))]


def nested_and_pruned(board: Board) -> list[tuple[Sae, Sae]]:
    """Each SAE of nested dictionaries with one that cuts another's weights down: trained at a k and read by the same selector, if there is such a one."""
    pruned = [sae for sae in compared(board) if sae.owner != sae.variant]
    nested = [sae for sae in compared(board) if sae.owner == sae.variant and is_nested(sae)]
    return [
        (sae, min(pruned, key=lambda other: (other.measured, other.native != sae.native, abs(math.log(other.budget / sae.budget))))) for sae in nested if pruned
    ]


def shells(sae: Sae) -> list[int]:
    """The sizes of its nested dictionaries, the whole last; none where its records are older than that."""
    return next((record["sae"]["shells"] for record in sae.records if "shells" in record["sae"]), [])


def is_nested(sae: Sae) -> bool:
    """Whether it has more than one dictionary; where its records do not say, whether its variant's file does, as far as that is here."""
    if ends := shells(sae):
        return len(ends) > 1
    return sae.variant in plugins.names("variants") and plugins.variant(sae.variant).shells is not Variant.shells


def against(board: Board, nested: Sae, pruned: Sae) -> str:
    """On which sizes the one is better than the other: at an equal share of active latents, and by what was measured only there, at equal L0."""
    shares, equal = (within(board, nested, pruned, relative) for relative in (True, False))
    known = {column for record in board.records for row in record["rows"] for column in row["values"]}
    found = {column: gains(nested, pruned, column, shares) for column in [*measured(board), *(column for column in ALIKE if column in known)]}
    some = {column: of for column, of in found.items() if any(size < board.latents for size in of)}
    others = {column: gains(nested, pruned, column, equal) for column in found if column not in some}
    parts = [*told(nested, some, shares), *told(nested, others, equal, f"at an L0 of {board.anchor}, ")]
    if not parts:
        return ""
    selectors = f"both read by {nested.native}" if nested.native == pruned.native else f"read by {nested.native}, the other by {pruned.native}"
    return (
        f"**Nested or cut down?** {board.label(nested)} against {board.label(pruned)}, which cuts the weights of {pruned.owner} down, {selectors}, "
        f"at equal share of active latents: {'. '.join(part[0].upper() + part[1:] for part in parts)}."
    )


def within(board: Board, nested: Sae, pruned: Sae, relative: bool) -> dict[int, int]:
    """The k of each number of latents that either was read with."""
    return {size: k for size, k in budgets(board, relative).items() if size in {*nested.sizes(), *pruned.sizes(), board.latents}}


def told(nested: Sae, found: Gains, ks: Mapping[int, int], first: str = "") -> list[str]:
    """What is to be said of each kind of size; nothing of those on which no column can be compared."""
    said = []
    for where, sizes in places(nested, ks).items():
        columns = {column: {size: of[size] for size in sizes if size in of} for column, of in found.items()}
        shares = f" ({words(f'{ks[size]} of {size:,}' for size in sizes)})" if sizes[0] < nested.latents else ""
        if parts := [f"{COMPARED[column][0]} {verdicts(of, sizes)}" for column, of in columns.items() if of]:
            said.append(f"{first}{where}{shares} {'; '.join(parts)}")
    return said


def places(nested: Sae, ks: Mapping[int, int]) -> dict[str, list[int]]:
    """The sizes of each kind: only those at which training ended a dictionary are nested, the others are cut out of one by importance."""
    ends, fewer = shells(nested), [size for size in ks if size < nested.latents]
    found = {
        "on its nested dictionaries": [size for size in fewer if size in ends],
        "inside the innermost of them, which is cut by importance too,": [size for size in fewer if ends and size < ends[0]],
        "between two of them, where the outer one is cut by importance too,": [size for size in fewer if ends and size > ends[0] and size not in ends],
        "on fewer latents": [] if ends else fewer,
        "with all latents": [size for size in ks if size == nested.latents],
    }
    return {where: sizes for where, sizes in found.items() if sizes}


def gains(nested: Sae, pruned: Sae, column: str, ks: Mapping[int, int]) -> dict[int, Gain]:
    """One column on every number of latents on which the two can be compared."""
    return {size: gain for size, k in ks.items() if (gain := gain_of(nested.cut_to(size), pruned.cut_to(size), column, k))}


def gain_of(one: Sae, other: Sae, column: str, k: int) -> Gain | None:
    """Of one SAE over another at an equal measured L0; None where they cannot be compared."""
    a, b = one.at(column, k), other.at(column, k)
    if not isinstance(a, Number) or not isinstance(b, Number):
        return None
    lead = leads.lead(column, k, one, other)
    ahead = lead if lead.value >= 0 else leads.lead(column, k, other, one)  # who is behind is clear of no noise
    said = {"not clear": ahead.doubts(), "not tested": list(ahead.untested())}
    return Gain(lead.value, tuple(f"{verdict}: {words(sources)}" for verdict, sources in said.items() if sources))


def verdicts(found: Mapping[int, Gain], asked: Sequence[int]) -> str:
    """clearly better on 512 by 0.03, worse on 1,024 by 0.001 (not clear: seeds), on 128 not comparable."""
    kinds = dict.fromkeys((gain.side(), gain.doubts) for gain in found.values())
    parts = []
    for side, doubts in kinds:
        alike = {size: gain.value for size, gain in found.items() if (gain.side(), gain.doubts) == (side, doubts)}
        sizes = f" on {words(f'{size:,}' for size in alike)}" if len(alike) < len(asked) else ""
        by = "" if side.endswith("equal") else f" by {amount(list(alike.values()))}"
        parts.append(f"{side}{sizes}{by}" + (f" ({'; '.join(doubts)})" if doubts else ""))
    missing = words(f"{size:,}" for size in asked if size not in found)
    return ", ".join(parts) + (f", not comparable on {missing}" if len(found) < len(asked) else "")


def amount(values: Sequence[float]) -> str:
    """From the least to the most, to two digits."""
    least, most = (rounded(abs(value), digits=2) for value in (min(values, key=abs), max(values, key=abs)))
    return least if least == most else f"{least} to {most}"
