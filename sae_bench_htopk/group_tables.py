"""The tables of latents by group: by the rank that their codes have in a row, and by shell of the dictionary."""

from collections.abc import Mapping
from typing import Any

from sae_bench_htopk.board import Board
from sae_bench_htopk.contract import Missing
from sae_bench_htopk.label_tables import first_row, of_row, untrained, whole
from sae_bench_htopk.markdown import Table, rounded

MEASURES = ("intruder", "monosemanticity", "purity")


def told(part: Mapping[str, Any] | None) -> str | Missing:
    """A number of the details with half its interval."""
    if part is None:
        return Missing("too few latents fire often enough")
    low, high = part.get("interval", (None, None))
    half = None if low is None or high is None else (high - low) / 2
    return rounded(part["value"], half) + (f" ±{rounded(half, half)}" if half else "")


def bands(board: Board) -> str:
    """Intruder and monosemanticity of the firings in each band of ranks, of each SAE at the largest budget that it was read at with such details."""
    found: dict[str, Mapping[str, Any]] = {}
    for sae in [*board.saes, *filter(None, [untrained(board)])]:
        rows = {k: parts for k in sae.ks() if (parts := of_row(first_row(sae, sae.reading(k)), "bands"))}
        if rows:
            found[f"{board.label(sae)}, read at {max(rows)}"] = rows[max(rows)]
    names = sorted({name for parts in found.values() for name in parts}, key=lambda name: int(name.partition("-")[0]))
    tables = []
    for measure in ("intruder", "monosemanticity"):
        table = Table("SAE", *(f"rank {name}" for name in names))
        for sae_name, parts in found.items():
            table.add(sae_name, *(told(parts.get(name, {}).get(measure)) for name in names))
        tables.append(f"{measure}, every latent alike, from the codes of these ranks alone (first seed):\n\n{table.markdown()}")
    return "\n\n".join(tables) if found else ""


def shells(board: Board) -> str:
    """Inner against outer shells, matched on how often latents fire, of each variant's SAE at the anchor."""
    found = {name: parts for name, row in whole(board) if (parts := of_row(row, "shells"))}
    table = Table("SAE", "latents, most important first", "judged", "compared", *(f"{measure}, {how}" for measure in MEASURES for how in ("matched", "raw")))
    for name, parts in found.items():
        for shell, part in sorted(parts.items(), key=lambda part: int(part[0].partition("-")[0].replace(",", ""))):  # a record sorts its keys
            numbers = [told(part.get(measure, {}).get(how)) for measure in MEASURES for how in ("matched", "raw")]
            table.add(name, shell, str(part["judged"]), str(part.get(MEASURES[0], {}).get("matched_latents", "")), *numbers)
    return table.markdown() if found else ""
