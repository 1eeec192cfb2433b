"""Downstream loss: what the language model's predictions lose when the reconstruction stands in for its activation."""

from collections.abc import Mapping

import torch
from jaxtyping import Float
from torch import Tensor

from sae_bench_htopk.contract import Batch, Column, Metric, Missing, Setting


class DownstreamLoss(Metric):
    """Cross-entropy of the next token with the reconstruction spliced in, and the distance from the clean model's prediction, beside two ablations."""

    columns = (
        Column("clean", "neither", "cross-entropy of the untouched model, in nats per token", formula="mean of -log p(next token)", source="the field's"),
        Column("spliced", "lower", "cross-entropy with x_hat in place of the activation, in nats per token", formula="as clean", source="the field's",
               pitfall="BOS and massive rows keep the clean activation, in the ablations too: other suites replace them in some runs and not in others"),
        Column("delta", "lower", "what the reconstruction costs, in nats per token", formula="spliced - clean", source="Gemma Scope (arXiv:2408.05147)",
               paired=True),
        Column("score_zero", "higher", "share of the loss under zero ablation that is recovered", formula="(zero - spliced) / (zero - clean)",
               source="SAEBench (arXiv:2503.09532)", pitfall="cheaply high: zeros in the residual stream cost so much that 0.9 can be a ruined model"),
        Column("score_mean", "higher", "share of the loss under mean ablation that is recovered", formula="(mean - spliced) / (mean - clean)", source="ours"),
        Column("zero_ablated", "neither", "cross-entropy with 0 in place of the activation, in nats per token", formula="as clean",
               source="SAEBench (arXiv:2503.09532)"),
        Column("mean_ablated", "neither", "cross-entropy with the stream's mean activation in its place, in nats per token", formula="as clean", source="ours"),
        Column("kl", "lower", "how far the prediction moved, whether or not it cost anything, in nats per token",
               formula="mean of sum_v p_clean(v) (log p_clean(v) - log p_spliced(v))", source="SAEBench (arXiv:2503.09532)",
               pitfall="the direction matters: KL(spliced || clean) is another number", paired=True),
        Column("kl_score_mean", "higher", "share of the divergence under mean ablation that is recovered", formula="1 - kl / kl_mean", source="ours"),
        Column("kl_zero", "neither", "divergence under zero ablation, in nats per token", formula="as kl", source="SAEBench (arXiv:2503.09532)"),
        Column("kl_mean", "neither", "divergence under mean ablation, in nats per token", formula="as kl", source="ours"),
        Column("top1", "higher", "share of tokens at which the clean model's likeliest next token is still the likeliest", formula="agreements / tokens",
               source="ours", pitfall="blind to how sure the model is"),
    )  # fmt: skip

    def __init__(self, setting: Setting) -> None:
        super().__init__(setting)
        # rows and clean loss; loss, divergence and agreement of the spliced, the zero-ablated and the mean-ablated run
        self.sums = torch.zeros(setting.documents, 11, dtype=torch.float64)

    def update(self, batch: Batch) -> None:
        """Adds up per document over the rows that predict a token: the same rows in every term."""
        model = batch.text.model
        runs = (*model.spliced(batch.x_hat), *model.zero_ablated, *model.mean_ablated)
        found = torch.stack((torch.ones_like(model.clean), model.clean, *runs), dim=1)
        predicts = model.predicts
        self.sums.index_add_(0, batch.text.document[predicts].cpu(), found[predicts].double().cpu())

    def result(self, weights: Float[Tensor, " documents"] | None) -> Mapping[str, float | Missing]:
        """Means over predicting rows, each document's counted `weights` times; scores are ratios of means."""
        once = torch.ones(self.setting.documents) if weights is None else weights
        rows, *sums = (once.to(self.sums) @ self.sums).tolist()
        if not rows:
            return {column.name: Missing("no row with any weight predicts a token") for column in self.columns}
        clean, spliced, kl, agrees, zero, kl_zero, _, mean, kl_mean, _ = (value / rows for value in sums)
        return {
            "clean": clean,
            "spliced": spliced,
            "delta": spliced - clean,
            "score_zero": recovered(clean, spliced, zero, "zero"),
            "score_mean": recovered(clean, spliced, mean, "mean"),
            "zero_ablated": zero,
            "mean_ablated": mean,
            "kl": kl,
            "kl_score_mean": recovered(0.0, kl, kl_mean, "mean", "KL"),
            "kl_zero": kl_zero,
            "kl_mean": kl_mean,
            "top1": agrees,
        }


def recovered(clean: float, spliced: float, ablated: float, name: str, what: str = "cross-entropy") -> float | Missing:
    """The share of what the ablation costs that the reconstruction does not; none if the ablation costs nothing."""
    if ablated <= clean:
        return Missing(f"{name} ablation costs nothing ({what} {ablated:.4g}, clean {clean:.4g}), so there is nothing to recover")
    return (ablated - spliced) / (ablated - clean)
