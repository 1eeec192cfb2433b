"""The tables that say which latent of which SAE tells which label, made of what a metric keeps under this word in its details."""

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from sae_bench_htopk.asked import HELD_OUT, text_of
from sae_bench_htopk.board import Board
from sae_bench_htopk.contract import Missing, Reading
from sae_bench_htopk.markdown import Table, code, rounded
from sae_bench_htopk.saes import Row, Sae

FLOORS: Mapping[str, str] = {
    "sparse_probing.floor_shuffled": "shuffled labels",
    "sparse_probing.floor_random": "the best of as many random directions",
    "sparse_probing.baseline_channel": "one raw channel",
    "sparse_probing.floor_token": "the current token alone",
    "sparse_probing.baseline_full": "all channels of x, a ceiling",
}
HOW = (
    "read at k = {k}, first seed: AUC on documents that neither chose nor fitted it, ± half its 95% interval over documents, and the latent's number. "
    "What stands before the first SAE needs none."
)


def untrained(board: Board) -> Sae | None:
    """The control that went through the same search without any training."""
    return next((sae for sae in board.controls if sae.variant == "untrained"), None)


def first_row(sae: Sae, reading: Reading) -> Row | None:
    """The row of the first seed that has this reading."""
    return next((rows[reading] for _, rows in sorted(sae.rows.items()) if reading in rows), None)


def whole(board: Board) -> Iterator[tuple[str, Row]]:
    """(name, row) of the SAE of each variant that was trained nearest to the anchor, on all of its latents, read there; then of the untrained one."""
    for variant in board.variants:
        sae = min(board.of(variant), key=lambda sae: abs(math.log(sae.budget / board.anchor)))
        if row := first_row(sae, sae.reading(board.anchor)):
            yield board.label(sae), row
    if (control := untrained(board)) and (row := first_row(control, control.reading(board.anchor))):
        yield f"*{board.label(control)}*", row


def smaller(board: Board) -> Iterator[tuple[str, Row]]:
    """(name, row) of each SAE that was cut down to fewer latents, at the anchor."""
    for sae in board.sub_dictionaries:
        for size in sae.sizes():
            if row := first_row(sae, sae.reading(board.anchor, size)):
                yield f"{board.label(sae)}, {size:,} latents", row


def keepers(board: Board) -> list[str]:
    """The metrics, each on its text, that keep labels among their details; that on held-out text first."""
    found = {name for record in board.records for row in record["rows"] for name, details in row.get("details", {}).items() if kept(details)}
    return sorted(found, key=lambda name: (text_of(name) != HELD_OUT, name))


def kept(details: Any) -> Mapping[str, Any]:
    """Labels among a metric's details."""
    labels = details.get("labels") if isinstance(details, Mapping) else None
    if not isinstance(labels, Mapping):
        return {}
    return {label: facts for label, facts in labels.items() if isinstance(facts, Mapping) and {"auc_1", "latents"} <= set(facts)}


def labels(board: Board) -> str:
    """Which latent of which SAE serves which label, one table for each text."""
    tables = []
    for name in keepers(board):
        if table := labels_of(list(whole(board)), name):
            where = "" if text_of(name) == HELD_OUT else f" of the labelled text {text_of(name)}"
            tables.append(f"Which latent tells which label{where}, {HOW.format(k=board.anchor)}\n\n{table}")
    return "\n\n".join(tables)


def labels_of_smaller(board: Board) -> str:
    """The same of dictionaries that were cut down or are nested."""
    return "\n\n".join(table for name in keepers(board) if (table := labels_of(list(smaller(board)), name)))


def labels_of(rows: Sequence[tuple[str, Row]], metric: str) -> str:
    """A line for each label of the headline: that takes more than the token to tell, or that a suite chose."""
    told = {name: found for name, row in rows if (found := kept(row.get("details", {}).get(metric)))}
    if not told:
        return ""
    some = next(iter(told.values()))
    needless = [column for column in FLOORS if shared(column.partition(".")[2], list(told.values()))]
    table = Table("label", *(FLOORS[column] for column in needless), *told)
    for label, facts in some.items():
        if facts.get("context"):
            bounds = [facts[column.partition(".")[2]] for column in needless]
            table.add(code(label), *bounds, *(served(found.get(label)) for found in told.values()))
    return table.markdown()


def shared(floor: str, told: Sequence[Mapping[str, Any]]) -> bool:
    """Whether a floor is one for all of these SAEs: the best of random directions is of as many as there are latents."""
    found = [{label: facts.get(floor) for label, facts in labels.items()} for labels in told]
    return None not in found[0].values() and all(one == found[0] for one in found)


def served(facts: Mapping[str, Any] | None) -> str | Missing:
    """0.83 ±0.05 (latent 1234)."""
    if facts is None:
        return Missing("too few rows")
    return f"{with_half(facts['auc_1'], facts.get('interval'))} (latent {facts['latents'][0]})"


def with_half(value: float, interval: Sequence[float] | None) -> str:
    """A number of the details, and half its 95% interval where it has one."""
    half = (interval[1] - interval[0]) / 2 if interval else None
    return rounded(value, half) + (f" ±{rounded(half, half)}" if half else "")
