"""In one sentence each: how sure the page is, and what the SAEs on it cost to train."""

from collections.abc import Collection, Mapping, Sequence

from sae_bench_htopk.board import Board
from sae_bench_htopk.contract import Missing
from sae_bench_htopk.contrasts import Result, verdicts
from sae_bench_htopk.costs import Cost, costs
from sae_bench_htopk.saes import EV
from sae_bench_htopk.seconds import overlapping

LISTED = 6  # variants whose costs are still read one by one


def how_sure(board: Board) -> str:
    """What came of the primary contrasts, and what clear means; with one seed that nothing is."""
    if not board.saes:
        return ""
    if board.seeds < 2:
        return "**How sure:** one seed, so nothing on this page is significant: no difference is known to be more than what another seed would change."
    return (
        f"**How sure:** {board.counted()}. {primary(verdicts(board))} Clear: more than half a 95% interval over documents, over seeds, and over both, "
        "uncorrected; untested: one of these is not known. The training text's own variance is in none."
    )


def primary(found: Sequence[Result]) -> str:
    """How many of the suite's primary contrasts are significant; all else is exploratory."""
    if not found:
        return "No primary contrasts are declared, so all here is exploratory."
    significant = sum(result.verdict == "significant" for result in found)
    verb = "is" if significant == 1 else "are"
    return f"Of {len(found)} [primary contrasts](#primary-contrasts) {significant} {verb} significant (Holm); the rest is exploratory."


def what_it_cost(board: Board) -> str:
    """Trainings, and seconds or else FLOPs, of the SAEs that are a variant's best somewhere; the cheapest and the dearest if they are many."""
    found = {variant: cost for variant, cost in costs(board, EV).items() if cost.used}
    if not found:
        return ""
    timed = all(not isinstance(cost.seconds, Missing) for cost in found.values())
    order = sorted(found, key=lambda variant: (amount(found[variant], timed), variant))
    chosen = order if len(order) <= LISTED else [order[0], order[-1]]
    parts = "; ".join(f"{variant} {number(found[variant], variant == chosen[0])}{spent(found[variant], timed)}" for variant in chosen)
    ends = "" if len(order) <= LISTED else f" the cheapest and the dearest of {len(order)}:"
    reason = "" if timed else f" No seconds: {next(cost.seconds.reason for cost in found.values() if isinstance(cost.seconds, Missing))}."
    on = where(board, found.values()) if timed else ""
    return f"**What it cost** for each seed{on}, for the k that each reaches ({reached(board, found)}):{ends} {parts}.{reason}"


def number(cost: Cost, first: bool) -> str:
    """2 trainings; the word once."""
    count = len(cost.used)
    return f"{count} training{'s' * (count != 1)}" if first else str(count)


def reached(board: Board, found: Mapping[str, Cost]) -> str:
    """6 to 8 of 8."""
    counts = [len(cost.covered) for cost in found.values()]
    least, most = min(counts), max(counts)
    return f"{least if least == most else f'{least} to {most}'} of {len(board.ks)}"


def amount(cost: Cost, timed: bool) -> float:
    """What sorts: seconds if all have them, else FLOPs; what is not known comes last."""
    value = cost.seconds if timed else cost.flops
    return float("inf") if isinstance(value, Missing) else value


def spent(cost: Cost, timed: bool) -> str:
    """589 s, or FLOPs."""
    value = cost.seconds if timed else cost.flops
    return "" if isinstance(value, Missing) else f", {value:,.0f} s" if timed else f", {value:.2g} FLOPs"


def where(board: Board, found: Collection[Cost]) -> str:
    """On what device, and with how many threads, which are the same for all whose seconds may be compared."""
    said = next(record["provenance"] for cost in found for sae in cost.used for record in sae.records)
    shared = ", some beside other seeds' training" if overlapping(board.records) else ""
    return f" ({said.get('device')}, {said.get('threads')} thread{'s' * (said.get('threads') != 1)}{shared})"
