"""Explained variance and its kin: how near the reconstruction comes to the activation, over all held-out rows."""

from collections.abc import Mapping

import torch
from jaxtyping import Float
from torch import Tensor

from sae_bench_htopk.contract import Batch, Column, Metric, Missing, Setting
from sae_bench_htopk.variance import Spread, added, explained, grouped, spread_after

NAMES = ("error", "cosine", "ratio", "nonzero", "squares", "products", "shares", "apart")  # what is summed over the rows of each group
TINY = torch.finfo(torch.float64).tiny


class ExplainedVariance(Metric):
    """Share of the activation's variance about its mean that the reconstruction explains, over all held-out rows at once."""

    columns = (
        Column(
            "ev", "higher", "explained variance, massive rows left out",
            formula="1 - sum ||x - x_hat||^2 / sum ||x - mean x||^2 over all rows", source="Gao et al. 2024 (arXiv:2406.04093), as 1 - normalized MSE",
            pitfall="SAELens up to 6.18, and SAEBench at 8042bb3, put E[x^2] where E[x] belongs (SAELens #659): another quantity", paired=True,
        ),
        Column("fvu", "lower", "fraction of variance unexplained", formula="1 - ev", source="progressive coding (arXiv:2505.00190)"),
        Column(
            "cosine", "higher", "mean cosine of x and x_hat, massive rows left out", formula="mean of x.x_hat / (||x|| ||x_hat||); 0 where x_hat is 0",
            source="SAEBench (arXiv:2503.09532)", pitfall="not centred: a large mean of x makes it high for any x_hat",
        ),
        Column(
            "relative_norm", "neither", "how long x_hat is beside x, massive rows left out: below 1 is shrinkage", formula="mean of ||x_hat|| / ||x||",
            source="SAEBench's L2 ratio (arXiv:2503.09532)", pitfall="error that is orthogonal to x lengthens x_hat, too",
        ),
        Column(
            "relative_bias", "neither", "the factor by which x_hat is too long or too short (below 1) to fit x best, massive rows left out",
            formula="sum ||x_hat||^2 / sum x.x_hat", source="Rajamanoharan et al. 2024 (arXiv:2404.16014), equation 10",
            pitfall="not centred: where the mean of x is large, it hides the shrinkage of what varies",
        ),
        Column(
            "ev_centred", "higher", "explained variance with the mean error forgiven, massive rows left out; to compare with KronSAE's numbers",
            formula="1 - sum_d Var(x - x_hat) / sum_d Var(x)", source="KronSAE (arXiv:2505.22255); dictionary_learning, as a mean over batches",
            pitfall="a constant offset of x_hat costs nothing",
        ),
        Column(
            "ev_legacy", "higher", "one minus the mean of per-row ratios, massive rows left out; to compare with older tables",
            formula="1 - mean of ||x - x_hat||^2 / ||x - m||^2, m the mean of the training stream",
            source="SAELens' explained_variance_legacy and SAEBench's paper (arXiv:2503.09532), with the mean of each batch as m",
            pitfall="one row near m can decide it; with a batch's own mean it would depend on how text is cut into batches",
        ),
        Column("ev_with_massive", "higher", "explained variance over all rows, massive ones too", formula="as ev", source="ours",
               pitfall="a few massive rows hold most of the variance of many models: near 1 says little of the others"),
        Column("massive_share", "neither", "share of rows whose norm is massive", formula="rows above the stream's limit / rows", source="ours"),
    )  # fmt: skip

    def __init__(self, setting: Setting) -> None:
        super().__init__(setting)
        self.mean = setting.statistics.mean if setting.statistics else None
        self.spread: Spread | None = None
        self.sums: Float[Tensor, "groups 8"] | None = None  # as NAMES says
        self.errors: Float[Tensor, "documents d"] | None = None  # the sum of x - x_hat over plain rows

    @classmethod
    def kept_bytes(cls, setting: Setting) -> tuple[int, int]:
        """The sums of x - x_hat of each document."""
        return 0, 8 * setting.documents * setting.d

    def update(self, batch: Batch) -> None:
        """Adds up in float64, per document and apart for massive rows."""
        text, documents, x, x_hat = batch.text, self.setting.documents, batch.text.x.float(), batch.x_hat.float()
        self.spread = spread_after(self.spread, text.x, text.document, text.massive, documents)
        norm, norm_hat = (rows.norm(dim=1, dtype=torch.float64) for rows in (x, x_hat))
        left = x - x_hat
        error, product = left.square().sum(1, dtype=torch.float64), (x * x_hat).sum(1, dtype=torch.float64)
        far = x.new_zeros(len(x), dtype=torch.float64) if self.mean is None else (x - self.mean.to(x)).square().sum(1, dtype=torch.float64)
        rows = {
            "error": error,
            "cosine": product / (norm * norm_hat).clamp_min(TINY),
            "ratio": torch.where(norm > 0, norm_hat / norm.clamp_min(TINY), 0.0),
            "nonzero": (norm > 0).double(),
            "squares": norm_hat.square(),
            "products": product,
            "shares": torch.where(far > 0, error / far.clamp_min(TINY), 0.0),
            "apart": (far > 0).double(),
        }
        group = grouped(text.document, text.massive, documents)
        sums = added(torch.stack([rows[name] for name in NAMES], dim=1), group, 2 * documents)
        errors = added(left[~text.massive].double(), text.document.long()[~text.massive], documents)
        self.sums = sums if self.sums is None else self.sums + sums
        self.errors = errors if self.errors is None else self.errors + errors

    def result(self, weights: Float[Tensor, " documents"] | None) -> Mapping[str, float | Missing]:
        """One division for each number, after all sums."""
        if self.spread is None or self.sums is None or self.errors is None:
            return {column.name: Missing("no held-out text") for column in self.columns}
        once = (torch.ones(self.setting.documents) if weights is None else weights).to(self.sums)
        plain, everything = torch.cat((once, torch.zeros_like(once))), torch.cat((once, once))
        total = dict(zip(NAMES, map(float, plain @ self.sums), strict=True))
        rows, all_rows = (float(group @ self.spread[2][:, 0]) for group in (plain, everything))
        ev, none = explained(self.spread, self.sums[:, 0], plain), Missing("no rows with any weight and a norm above 0")
        forgiven = float((once @ self.errors).square().sum()) / rows if rows else 0.0
        return {
            "ev": ev,
            "fvu": ev if isinstance(ev, Missing) else 1 - ev,
            "cosine": total["cosine"] / total["nonzero"] if total["nonzero"] else none,
            "relative_norm": total["ratio"] / total["nonzero"] if total["nonzero"] else none,
            "relative_bias": total["squares"] / total["products"] if total["products"] > 0 else Missing("x_hat does not point the way of x on the whole"),
            "ev_centred": explained(self.spread, self.sums[:, 0], plain, forgiven),
            "ev_legacy": 1 - total["shares"] / total["apart"] if total["apart"] else Missing("no row differs from the stream's mean, or that is not known"),
            "ev_with_massive": explained(self.spread, self.sums[:, 0], everything),
            "massive_share": 1 - rows / all_rows if all_rows else Missing("no rows with any weight"),
        }
