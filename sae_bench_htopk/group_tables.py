"""The tables of latents by group: by the rank that their codes have in a row, and by shell of the dictionary."""

import re
from collections.abc import Mapping
from typing import Any

from sae_bench_htopk.board import Board
from sae_bench_htopk.contract import Missing
from sae_bench_htopk.label_tables import first_row, untrained, whole, with_half
from sae_bench_htopk.markdown import Table
from sae_bench_htopk.saes import Row

MEASURES = ("intruder", "monosemanticity", "purity")


def of_row(row: Row | None, key: str) -> Mapping[str, Mapping[str, Any]]:
    """The groups that a metric keeps of a row under this word; nothing if none does, or it keeps something else there."""
    for details in [] if row is None else row.get("details", {}).values():
        groups = details.get(key) if isinstance(details, Mapping) else None
        if isinstance(groups, Mapping) and groups and all(isinstance(part, Mapping) and "judged" in part for part in groups.values()):
            return groups
    return {}


def first_place(name: str) -> int:
    """Where a group begins, by its name, such as 1,025-2,048: a record sorts its keys as text."""
    found = re.match(r"[\d,]+", name)
    return int(found[0].replace(",", "")) if found else 0


def told(part: Mapping[str, Any] | None) -> str | Missing:
    """A number of the details with half its interval."""
    if not part:
        return Missing("too few latents fire often enough")
    return with_half(part["value"], part.get("interval"))


def bands(board: Board) -> str:
    """Intruder and monosemanticity of the firings in each band of ranks, of each SAE at the largest budget that it was read at with such details."""
    found: dict[str, Mapping[str, Any]] = {}
    for sae in [*board.saes, *filter(None, [untrained(board)])]:
        rows = {k: parts for k in sae.ks() if (parts := of_row(first_row(sae, sae.reading(k)), "bands"))}
        if rows:
            found[f"{board.label(sae)}, read at {max(rows)}"] = rows[max(rows)]
    names = sorted({name for parts in found.values() for name in parts}, key=first_place)
    tables = []
    for measure in ("intruder", "monosemanticity"):
        table = Table("SAE", *(f"rank {name}" for name in names))
        for sae_name, parts in found.items():
            table.add(sae_name, *(told(parts[name].get(measure)) if name in parts else Missing("it has no code of such a rank") for name in names))
        tables.append(f"{measure}, every latent alike, from the codes of these ranks alone (first seed):\n\n{table.markdown()}")
    return "\n\n".join(tables) if found else ""


def shells(board: Board) -> str:
    """Inner against outer shells, matched on how often latents fire, of each variant's SAE at the anchor."""
    found = {name: parts for name, row in whole(board) if (parts := of_row(row, "shells"))}
    table = Table("SAE", "latents, most important first", "judged", "compared", *(f"{measure}, {how}" for measure in MEASURES for how in ("matched", "raw")))
    for name, parts in found.items():
        for shell in sorted(parts, key=first_place):
            part = parts[shell]
            numbers = [told(part.get(measure, {}).get(how)) for measure in MEASURES for how in ("matched", "raw")]
            table.add(name, shell, str(part["judged"]), str(part.get("matched_latents", "")), *numbers)
    return table.markdown() if found else ""
