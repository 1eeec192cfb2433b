"""The section of a page on whether trainings from other seeds found the same latents."""

from collections.abc import Iterator, Mapping
from statistics import fmean, stdev
from typing import Any

from sae_bench_htopk.board import Board
from sae_bench_htopk.contract import Missing
from sae_bench_htopk.markdown import Table, words
from sae_bench_htopk.saes import Sae

STABILITY = (
    "Two seeds of one SAE are compared latent by latent, live ones only (which fire on calibration text at the SAE's own budget), by the cosine of their "
    "decoder rows. MMCS: the mean over latents of the nearest one's cosine in the other seed, both ways together. Matched: the mean cosine of matched pairs, "
    "by an assignment of each latent to one (hungarian), or for many latents of those alone that are each other's nearest (mutual). Shared: matched pairs "
    "above 0.7 in decoder and encoder, "
    "over the smaller number of live latents. In parentheses what as many random rows come to, their encoder tied to their decoder. ± is over pairs "
    "of seeds, which share seeds; all see one stream of text, so other text is in no number here."
)


def pairs(sae: Sae) -> list[Mapping[str, Any]]:
    """What records say of two seeds that are both on the board."""
    keys = {record["train_key"] for record in sae.records}
    return [pair for record in sae.records for pair in record.get("stability", ()) if pair["train_key"] in keys]


def stability(board: Board) -> str:
    """One row for each SAE that has two seeds or more, and one for its pairs that could not be compared; nothing if none has."""
    table = Table("SAE", "pairs", "matching", "live latents", "MMCS", "matched", "shared")
    for sae in [sae for sae in board.everything if not sae.control and sae.owner == sae.variant]:
        every = pairs(sae)
        for matching in ("hungarian", "mutual"):
            if found := [pair for pair in every if pair.get("matching") == matching]:
                live = fmean((pair["live"] + pair["live_other"]) / 2 for pair in found)
                table.add(board.label(sae), str(len(found)), matching, f"{live:,.0f}", *(cell(values) for values in measured(found)))
        if none := [pair["missing"] for pair in every if "missing" in pair]:
            table.add(board.label(sae), str(len(none)), "none", "", *[Missing(words(dict.fromkeys(none)))] * 3)
    return table.markdown()


def measured(found: list[Mapping[str, Any]]) -> Iterator[list[tuple[float, float]]]:
    """For MMCS, matched and shared: (the pair's number, that of random rows) of every pair."""
    yield [tuple((one["mmcs_to"] + one["mmcs_from"]) / 2 for one in (pair, pair["floor"])) for pair in found]
    for name in ("matched", "shared"):
        yield [(pair[name], pair["floor"][name]) for pair in found]


def cell(values: list[tuple[float, float]]) -> str:
    """The mean with its standard deviation over pairs, and the mean of random rows."""
    found, floor = zip(*values, strict=True)
    return f"{fmean(found):.3f}" + (f" ±{stdev(found):.3f}" if len(found) > 1 else "") + f" ({fmean(floor):.3f})"
