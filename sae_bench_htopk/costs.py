"""What it cost to train the SAEs that make each variant's best at every budget: how many trainings, seconds where these may be compared, and FLOPs."""

from typing import NamedTuple

from sae_bench_htopk import seconds
from sae_bench_htopk.board import Board
from sae_bench_htopk.contract import Missing
from sae_bench_htopk.saes import Sae


class Cost(NamedTuple):
    """Of one variant, for each seed."""

    used: tuple[Sae, ...]  # the SAEs that are the variant's best at some budget
    covered: tuple[int, ...]  # the budgets that they reach
    seconds: float | Missing
    flops: float | Missing

    def trainings(self, budgets: int) -> str:
        """2, or 2 for 7 of 8 k where the others are not reached."""
        return f"{len(self.used)}" + (f" for {len(self.covered)} of {budgets} k" if len(self.covered) < budgets else "")


def costs(board: Board, column: str) -> dict[str, Cost]:
    """Of each variant by one column; seconds only if those of all that are in use may be compared."""
    envelopes = {variant: board.envelope(variant, column) for variant in board.variants}
    used = {variant: tuple(dict.fromkeys(best.sae for _, best in found)) for variant, found in envelopes.items()}
    reason = seconds.comparable([record for saes in used.values() for sae in saes for record in sae.records])
    return {variant: cost_of(saes, tuple(k for k, _ in envelopes[variant]), reason) for variant, saes in used.items()}


def cost_of(saes: tuple[Sae, ...], covered: tuple[int, ...], reason: str | None) -> Cost:
    """Of the trainings of these SAEs; `reason` says why seconds may not be compared."""
    records = [record for sae in saes for record in sae.records]
    if not records:
        return Cost(saes, covered, *[Missing("none of its SAEs reaches a budget")] * 2)
    flops = seconds.total(records, "flops")
    took = None if reason else seconds.total(records, "train_seconds")
    return Cost(saes, covered, Missing(reason or "not recorded") if took is None else took, Missing("a record does not say") if flops is None else flops)


def cells(cost: Cost, budgets: int) -> tuple[str | Missing, ...]:
    """Trainings, seconds and FLOPs as cells of a table."""
    took = cost.seconds if isinstance(cost.seconds, Missing) else f"{cost.seconds:,.0f}"
    flops = cost.flops if isinstance(cost.flops, Missing) else f"{cost.flops:.2g}"
    return cost.trainings(budgets) if cost.used else Missing("none of its SAEs reaches a budget"), took, flops
