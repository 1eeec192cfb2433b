"""The sparsity curve: explained variance and measured L0 at every budget from 1 to the reading's own, from one reading."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from sae_bench_htopk.contract import Batch, Column, Metric, Missing, Setting
from sae_bench_htopk.variance import Spread, added, spread_after, total_of

# of each document: the squared error of its plain rows without any code; what the codes that enter at each budget take away; their number
Sums = tuple[Float[Tensor, " documents"], Float[Tensor, "documents k"], Float[Tensor, "documents k"]]


class SparsityCurve(Metric):
    """Explained variance against L0, for every k at once: each code is counted at the budget at which it enters."""

    columns = (
        Column("ev_mean", "neither", "mean explained variance over all L0 from 1 to what k comes to, each octave alike, massive rows left out",
               formula="mean of ev over log L0, by trapezoids between the measured (L0, ev) at k' = 1, 2, .. k; an L0 below 1 counts as 1", source="ours",
               pitfall="it ranks nobody: its range ends at the SAE's own L0, and two SAEs come to different ones; compare curves at an equal L0"),
    )  # fmt: skip

    def __init__(self, setting: Setting) -> None:
        super().__init__(setting)
        self.k = setting.k or 0
        self.missing = None if self.k else Missing("the reading's k is not known")
        self.spread: Spread | None = None
        self.sums: Sums | None = None
        self.band: dict[str, list[float]] = {}

    @classmethod
    def kept_bytes(cls, setting: Setting) -> tuple[int, int]:
        """The sums of each document at each budget."""
        return 0, 8 * setting.documents * (2 * (setting.k or 0) + 1)

    def update(self, batch: Batch) -> None:
        """Adds up, per document and budget of entry, what each code takes from its row's error; massive rows are left out."""
        if self.missing is not None:
            return
        if isinstance(found := batch.prefixes(), Missing):
            self.missing = found
            return
        text, documents, lengths = batch.text, self.setting.documents, batch.codes.lengths()
        plain, document = ~text.massive, text.document.long()
        self.spread = spread_after(self.spread, text.x, text.document, text.massive, documents)
        start = added(found.before.double()[plain][:, None], document[plain], documents)[:, 0]
        before = found.after.roll(1)  # the error that each code finds
        before[batch.codes.offsets[:-1][lengths > 0]] = found.before[lengths > 0]
        own = plain.repeat_interleave(lengths)
        cell = (document.repeat_interleave(lengths) * self.k + found.enters - 1)[own]
        drops = start.new_zeros(documents * self.k).index_add_(0, cell, (before.double() - found.after.double())[own])
        codes = cell.bincount(minlength=documents * self.k).double()
        more = start, drops.view(documents, self.k), codes.view(documents, self.k)
        self.sums = more if self.sums is None else (self.sums[0] + more[0], self.sums[1] + more[1], self.sums[2] + more[2])

    def curves(self, draws: Float[Tensor, "draws documents"]) -> tuple[Float[np.ndarray, "draws k"], Float[np.ndarray, "draws k"]]:
        """(L0, explained variance) at every budget for each draw of documents; NaN where there is nothing to explain."""
        assert self.spread is not None and self.sums is not None
        start, drops, codes = self.sums
        draws = draws.to(start)
        totals = [total_of(self.spread, torch.cat((draw, torch.zeros_like(draw)))) or (np.nan, np.nan) for draw in draws]
        rows, variance = np.array(totals).T[:, :, None]
        error = (draws @ start)[:, None] - (draws @ drops).cumsum(1)
        return (draws @ codes).cumsum(1).cpu().numpy() / rows, 1 - error.cpu().numpy() / variance

    def result(self, weights: Float[Tensor, " documents"] | None) -> Mapping[str, float | Missing]:
        """The mean height over the log of the measured L0."""
        return self.results((torch.ones(self.setting.documents) if weights is None else weights)[None])[0]

    def results(self, draws: Float[Tensor, "draws documents"]) -> list[Mapping[str, float | Missing]]:
        """All draws at once; those after the first, where there are any, make the band of `details`."""
        if self.missing is not None or self.sums is None:
            return [{"ev_mean": self.missing or Missing("no held-out text")} for _ in draws]
        l0, ev = self.curves(draws)
        if len(draws) > 1 and np.isfinite(ev).all():
            self.band = dict(zip(("low", "high"), np.quantile(ev[1:], [0.025, 0.975], axis=0).round(6).tolist(), strict=True))
        nothing = Missing("no rows with any weight, or activations that do not vary")
        return [{"ev_mean": float(height) if np.isfinite(height) else nothing} for height in mean_height(l0, ev)]

    def details(self) -> Mapping[str, Any]:
        """What the page's curve.py draws: lists over the budgets `k`, with `l0` and `ev` at each.

        `low` and `high`, where `results` was given draws, hold 95% of the ev of those draws of documents.
        """
        if self.missing is not None or self.sums is None:
            return {}
        (l0,), (ev,) = self.curves(torch.ones(1, self.setting.documents))
        return {"k": list(range(1, self.k + 1)), "l0": l0.round(4).tolist(), "ev": ev.round(6).tolist(), **self.band} if np.isfinite(ev).all() else {}


def mean_height(l0: Float[np.ndarray, "draws k"], ev: Float[np.ndarray, "draws k"]) -> Float[np.ndarray, " draws"]:
    """Over log L0; the last height where L0 does not grow, so budgets that add no codes count for nothing.

    L0 below 1 counts as 1: if the first such budget were left out instead, a draw whose L0 is 0.99 at k = 1 would lose the octave up to 2.
    """
    log_l0 = np.log(np.maximum(l0, 1))
    width = log_l0[:, -1] - log_l0[:, 0]
    heights = ev[:, -1].copy()
    np.divide(np.trapezoid(ev, log_l0), width, out=heights, where=width > 0)
    return heights
