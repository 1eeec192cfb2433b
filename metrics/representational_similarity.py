"""Representational similarity: do activations that are alike have reconstructions that are alike?"""

from collections.abc import Mapping
from functools import lru_cache

import torch
from jaxtyping import Float
from torch import Tensor

from sae_bench_htopk.contract import Batch, Column, Metric, Missing, Setting
from sae_bench_htopk.probing import Rows, Sample, grow
from sae_bench_htopk.similarity import EQUAL, MIN_ROWS, Cka, Grouping, Rsa, dissimilarity, gram

ROWS = 1500  # every pair of them is compared


@lru_cache(maxsize=1)
def geometry(rows: Rows) -> tuple[Grouping, Float[Tensor, "rows rows"], Float[Tensor, "rows rows"]]:
    """The rows' documents, and the dissimilarities and products of their activations, sorted by document: the same for every SAE."""
    grouping = Grouping.of(rows.document)
    x = rows.x[torch.from_numpy(grouping.order)]
    return grouping, dissimilarity(x), gram(x)


class RepresentationalSimilarity(Metric):
    """RSA and debiased linear CKA between activations and reconstructions, on 1,500 rows drawn from all the text."""

    columns = (
        Column("rsa", "higher", "Pearson correlation of the 1 - Pearson dissimilarities of rows of x and of x_hat (arXiv:2505.00190 reports it)"),
        Column("cka", "higher", "debiased linear CKA of x and x_hat: 0 on average if they are independent"),
        Column("rsa_shuffled", "neither", "rsa with the rows of x_hat shuffled: what no relation at all would give"),
    )

    def __init__(self, setting: Setting) -> None:
        super().__init__(setting)
        self.sample = Sample.empty(ROWS)
        self.x_hat: list[Tensor] = []
        self.measures: dict[str, Rsa | Cka | Missing] | None = None

    def update(self, batch: Batch) -> None:
        """Keeps the reconstructions of the rows that enter the sample; massive rows never do."""
        text = batch.text
        self.sample, entering, kept = grow(self.sample, text.x, text.document, text.position, text.span, text.massive)
        self.x_hat.append(batch.x_hat[torch.from_numpy(entering).to(batch.x_hat.device)].float().cpu())
        if kept is not None:
            self.x_hat = [torch.cat(self.x_hat)[torch.from_numpy(kept)]]
        self.measures = None

    def measured(self) -> dict[str, Rsa | Cka | Missing]:
        """Each column as a function of weights, made once."""
        if self.measures is None:
            self.measures = self.compared()
        return self.measures

    def compared(self) -> dict[str, Rsa | Cka | Missing]:
        """Each column as a function of weights, or the reason why there is none."""
        if not self.x_hat or len(self.sample.order) < MIN_ROWS:
            rows = len(self.sample.order) if self.x_hat else 0
            return dict.fromkeys(("rsa", "cka", "rsa_shuffled"), Missing(f"{rows} rows of held-out text, wanted at least {MIN_ROWS}"))
        x_hat = torch.cat(self.x_hat)[torch.from_numpy(self.sample.order)]
        if bool((x_hat - x_hat.mean(0)).norm() <= EQUAL * x_hat.norm()):
            return dict.fromkeys(("rsa", "cka", "rsa_shuffled"), Missing("all reconstructions are equal"))
        grouping, of_x, products_of_x = geometry(self.sample.rows)
        order = torch.from_numpy(grouping.order)
        of_x_hat, shuffled = dissimilarity(x_hat[order]), dissimilarity(x_hat.roll(len(x_hat) // 2, dims=0)[order])
        cka = Cka.of(grouping, products_of_x, gram(x_hat[order]))
        return {"rsa": Rsa.of(grouping, of_x, of_x_hat), "cka": cka, "rsa_shuffled": Rsa.of(grouping, of_x, shuffled)}

    def result(self, weights: Float[Tensor, " documents"] | None) -> Mapping[str, float | Missing]:
        """Each pair (CKA: quadruple) of different rows counted by the product of its documents' weights; a row never meets its copy."""
        counts = None if weights is None else weights.cpu().double().numpy()
        return {name: value if isinstance(value, Missing) else value(counts) for name, value in self.measured().items()}
