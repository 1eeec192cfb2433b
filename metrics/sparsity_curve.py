"""The sparsity curve: explained variance and measured L0 at every budget from 1 to the reading's own, from one reading."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from sae_bench_htopk.contract import Batch, Column, Metric, Missing, Setting
from sae_bench_htopk.variance import Spread, added, spread_after, total_of

DRAWS = 100  # of documents, behind the band


class SparsityCurve(Metric):
    """Explained variance against L0, for every k at once: each code is counted at the budget at which it enters."""

    columns = (
        Column("ev_mean", "higher", "mean explained variance over all budgets from 1 to k, each octave alike, massive rows left out",
               formula="mean of ev over log k', by trapezoids between k' = 1, 2, .. k", source="ours",
               pitfall="two SAEs compare only at the same k, and where thresholds give the L0 that they promise"),
    )  # fmt: skip

    def __init__(self, setting: Setting) -> None:
        super().__init__(setting)
        self.k = setting.k or 0
        self.spread: Spread | None = None
        self.reason = Missing("no held-out text") if self.k else Missing("the reading's k is not known")
        self.start = torch.zeros(setting.documents, dtype=torch.float64)  # squared error of plain rows without any code
        self.drops = torch.zeros(setting.documents, self.k + 1, 2, dtype=torch.float64)  # by the budget of entry: error taken away, codes

    def update(self, batch: Batch) -> None:
        """Adds up, per document and budget of entry, what each code takes from its row's error; massive rows are left out."""
        found = batch.prefixes() if self.k else self.reason
        if isinstance(found, Missing):
            self.reason = found
            return
        text, documents, lengths, plain = batch.text, self.setting.documents, batch.codes.lengths(), ~batch.text.massive
        self.spread = spread_after(self.spread, text.x, text.document, text.massive, documents)
        self.start += added(found.before.double()[plain][:, None], text.document.long()[plain], documents)[:, 0].to(self.start)
        before = found.after.roll(1)  # the error that each code finds
        before[batch.codes.offsets[:-1][lengths > 0]] = found.before[lengths > 0]
        drops = torch.stack((before.double() - found.after.double(), torch.ones_like(before, dtype=torch.float64)), dim=1)
        own = plain.repeat_interleave(lengths)
        cell = text.document.long().repeat_interleave(lengths) * (self.k + 1) + found.enters
        self.drops += added(drops[own], cell[own], documents * (self.k + 1)).view_as(self.drops).to(self.drops)

    def curves(self, weights: Float[Tensor, "draws documents"]) -> tuple[Float[Tensor, "draws k"], Float[Tensor, "draws k"]] | None:
        """(L0, explained variance) at every budget, for documents counted so often; None if there is nothing to explain."""
        assert self.spread is not None
        error = (weights @ self.start)[:, None] - torch.einsum("wd,dk->wk", weights, self.drops[:, :, 0]).cumsum(1)[:, 1:]
        codes = torch.einsum("wd,dk->wk", weights, self.drops[:, :, 1]).cumsum(1)[:, 1:]
        spread: Spread = (self.spread[0].cpu(), self.spread[1].cpu(), self.spread[2].cpu())
        totals = [total_of(spread, torch.cat((draw, torch.zeros_like(draw)))) for draw in weights]
        if any(total is None for total in totals):
            return None
        rows, variance = (torch.tensor(part, dtype=torch.float64)[:, None] for part in zip(*totals, strict=True))
        return codes / rows, 1 - error / variance

    def result(self, weights: Float[Tensor, " documents"] | None) -> Mapping[str, float | Missing]:
        """The mean height over the log of the budget."""
        if self.spread is None:
            return {"ev_mean": self.reason}
        found = self.curves((torch.ones(self.setting.documents) if weights is None else weights).double().cpu()[None])
        if found is None:
            return {"ev_mean": Missing("no rows with any weight, or activations that do not vary")}
        budgets = torch.arange(1, self.k + 1, dtype=torch.float64).log()
        return {"ev_mean": float(torch.trapezoid(found[1][0], budgets) / budgets[-1] if self.k > 1 else found[1])}

    def details(self) -> Mapping[str, Any]:
        """The curve, with the band in which 95% of the draws of documents lie."""
        if self.spread is None:
            return {}
        documents = self.setting.documents
        draws = np.random.default_rng(0).multinomial(documents, np.full(documents, 1 / documents), size=DRAWS)
        one, many = self.curves(torch.ones(1, documents, dtype=torch.float64)), self.curves(torch.from_numpy(draws).double())
        if one is None:
            return {}
        band = {} if many is None else dict(zip(("low", "high"), np.quantile(many[1].numpy(), [0.025, 0.975], axis=0).round(6).tolist(), strict=True))
        return {"k": list(range(1, self.k + 1)), "l0": one[0][0].numpy().round(4).tolist(), "ev": one[1][0].numpy().round(6).tolist(), **band}
