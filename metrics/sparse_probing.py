"""Sparse probing (arXiv:2305.01610): how well one latent, or a few, tell a label of text that they were not chosen on."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from sae_bench_htopk.contract import Batch, Column, Metric, Missing, Setting
from sae_bench_htopk.floors import Plain, floors, plain_of
from sae_bench_htopk.labels import Labels
from sae_bench_htopk.pooled import PooledCodes, plain_of_documents
from sae_bench_htopk.probing import Told, detectors, probes
from sae_bench_htopk.questions import LEAST, LEAST_DOCUMENTS, SHUFFLES
from sae_bench_htopk.resampling import interval
from sae_bench_htopk.sample import SampledCodes, sampled
from sae_bench_htopk.scoring import mean_of_known
from sae_bench_htopk.transcript import Transcript, follow

ROWS = 12_000


@dataclass(frozen=True, eq=False)
class Probed:
    """What an SAE's probes came to, label by label."""

    plain: Plain
    labels: list[int]
    told: list[Told]

    @property
    def headline(self) -> Bool[np.ndarray, " labels"]:
        """The labels that the token itself does not give away, and those that a suite chose with their text."""
        return np.array([self.plain.questions.labels[label].context for label in self.labels])

    def facts(self, index: int) -> dict[str, Any]:
        """What a page may say of a label beside its scores; precision is None where the latent never fires."""
        questions, told, label = self.plain.questions, self.told[index], self.labels[index]
        everywhere, asked, carries = np.ones((1, len(questions.parts))), questions.asked(label), questions.carries[:, label]
        precision, recall = (float(share(everywhere)[0]) for share in (told.firing.tally.precision, told.firing.tally.recall))
        return {
            "precision": None if np.isnan(precision) else precision,
            "recall": recall,
            "latents": told.five.features,
            "firing_latent": told.firing.latent,
            "rows_on": int((asked & carries).sum()),
            "rows_off": int((asked & ~carries).sum()),
            "meaning": questions.labels[label].meaning,
            "context": questions.labels[label].context,
        }


@lru_cache(maxsize=1)
def once(documents: int) -> Float[Tensor, "1 documents"]:
    """Every document once; one tensor, since what is shared for some weights is found by the tensor's identity."""
    return torch.ones(1, documents)


class SparseProbing(Metric):
    """Sparse probing: how well one latent, two or five tell a label in documents not fitted on; of labels that the token itself does not give away.

    A third of the documents chooses latents, by |mean where the label is - mean where it is not|; a third fits a logistic regression on
    them; a third is scored. Rows are a sample of tokens, or whole documents where labels are those of documents.
    """

    columns = (
        Column("auc_1", "higher", "how well a probe on one latent tells a label that the token itself does not give away; chance is 0.5",
               formula="area under the ROC curve of a logistic regression (L2, C = 1, classes of equal weight), mean over labels",
               source="sparse probing: Gurnee et al. 2023 (arXiv:2305.01610); SAEBench (arXiv:2503.09532); labels: ours",
               pitfall="the best of thousands of latents is above 0.5 even if none means anything: read it beside the floors", paired=True),
        Column("auc_2", "higher", "auc_1 with two latents", formula="as auc_1", source="as auc_1", pitfall="as auc_1"),
        Column("auc_5", "higher", "auc_1 with five latents", formula="as auc_1", source="as auc_1",
               pitfall="the more latents, the less a high score says of any: five channels of x do well, too"),
        Column("balanced_1", "higher", "the accuracy of auc_1's probe, both answers counting alike; chance is 0.5",
               formula="mean of both recalls, mean over labels", source="as auc_1",
               pitfall="the probe's cut at even odds is fitted on other documents and may sit badly"),
        Column("f1", "higher", "concept alignment: one latent's firing as the label, without any fit",
               formula="2 hits / (rows with the label + rows where it fires) of the latent of best F1 on other documents, mean over labels",
               source="as sparse probing; F1 of firing: ours", pitfall="chance is not 0: read it beside floor_f1, which the more frequent labels raise"),
        Column("baseline_channel", "neither", "auc_1 with one raw channel of x in place of a latent: what needs no SAE", formula="as auc_1",
               source="SAEBench (arXiv:2503.09532)", pitfall="channels are far fewer than latents, so the search among them is weaker"),
        Column("baseline_full", "neither", "the same with all channels of x: a ceiling",
               formula="as auc_1, channels standardised; nothing is chosen, so that all documents that are not scored fit it",
               source="SAEBench (arXiv:2503.09532)", pitfall="with many channels for each fitted row it overfits, and a few latents may pass it"),
        Column("floor_token", "neither", "the same from the current token alone, without the model (of a document: which tokens it has)",
               formula="as auc_1, one 0-or-1 feature for each token of the vocabulary, fitted on all shown tokens of the documents that are not scored",
               source="control: Hewitt & Liang 2019 (arXiv:1909.03368)",
               pitfall="what passes it knows more than the token, though the token before may be enough; tokens that no fitted document has tie"),
        Column("floor_random", "neither", "auc_1 with the best of as many random directions of x as there are latents in use", formula="as auc_1",
               source="control: Hewitt & Liang 2019 (arXiv:1909.03368); ours", pitfall="of one draw: the same for every SAE with as many latents in use"),
        Column("floor_shuffled", "neither", "auc_1 of labels that mean nothing: moved on along the text before the search, runs of rows kept together",
               formula=f"as auc_1, labels shifted within each third of the documents, mean of {SHUFFLES} shifts; those of whole documents dealt out anew",
               source="control tasks: Hewitt & Liang 2019 (arXiv:1909.03368); shifts: ours",
               pitfall="0.5 on average; as a mean of several shifts it is nearer to it than chance alone would bring auc_1, and than one label's"),
        Column("floor_f1", "neither", "the F1 of a latent that always fires", formula="2p / (1 + p) of a label on in a share p of scored rows, mean of labels",
               source="ours", pitfall="the most that firing by chance can have: by chance at a rate of q, it has 2pq / (p + q)"),
    )  # fmt: skip

    def __init__(self, setting: Setting) -> None:
        super().__init__(setting)
        self.codes, self.transcript, self.pooled = SampledCodes.empty(ROWS), Transcript.empty(), PooledCodes()
        self.texts = tuple[str, ...]()
        self.labels: Labels | None = None
        self.fitted: Probed | Missing | None = None
        self.drawn: Float[np.ndarray, "labels draws"] | None = None  # auc_1 under the draws that were asked for last

    @classmethod
    def kept_bytes(cls, setting: Setting) -> tuple[int, int]:
        """The codes of the sample, of which up to twice as many rows are held until it is cut; or, of whole documents, what each latent sums to."""
        k = setting.k or 0
        pooled = min(setting.documents * setting.usable, k * sum(setting.rows or ()))
        return max(2 * ROWS * 12 * k, 16 * pooled), 0

    def update(self, batch: Batch) -> None:
        """Keeps the codes of the rows that enter the sample, or their sums over documents; massive rows are in neither."""
        text = batch.text
        self.texts, self.labels, self.fitted, self.drawn = tuple(text.texts), text.labels, None, None
        if text.labels is not None and text.labels.whole:
            self.pooled.add(text, batch.codes, self.setting.latents)
        else:
            self.codes, self.transcript = sampled(self.codes, text, batch.codes), follow(self.transcript, text)

    def probed(self) -> Probed | Missing:
        """The probes of each label, fitted once whatever weights are asked for, or the reason why there are none."""
        if self.fitted is None:
            self.fitted = self.fit()
        return self.fitted

    def fit(self) -> Probed | Missing:
        """Chooses latents and fits probes for every label that has enough rows."""
        held: SampledCodes | PooledCodes = self.codes
        if self.labels is not None and self.labels.whole:
            plain, held = plain_of_documents(self.pooled.pool, self.texts, self.labels), self.pooled
        else:
            plain = plain_of(self.codes.sample, self.transcript, self.texts, self.labels)
        if isinstance(plain, Missing):
            return plain
        questions, labels = plain.questions, plain.questions.probed
        codes = held.matrix(self.setting.latents)[questions.rows]
        by_count, firing = probes(codes, questions, labels, (1, 2, 5)), detectors(codes, questions, labels)
        by_chance = zip(*([chance for (chance,) in probes(codes, dealt, labels, (1,))] for dealt in questions.shuffled), strict=True)
        told = [Told(one, two, five, chance, fires) for (one, two, five), chance, fires in zip(by_count, by_chance, firing, strict=True)]
        return Probed(plain, labels, told)

    def scores(self, probed: Probed, draws: Float[Tensor, "draws documents"]) -> dict[str, Float[np.ndarray, "labels draws"]]:
        """Every column of every label; NaN where its positives or negatives have no weight."""
        weights = draws.cpu().double().numpy()
        own = [told.scores(weights) for told in probed.told]
        found = {name: np.stack([label[name] for label in own]) for name in own[0]} | floors(probed.plain, self.setting.usable, draws)
        return {column.name: found[column.name] for column in self.columns}

    def result(self, weights: Float[Tensor, " documents"] | None) -> Mapping[str, float | Missing]:
        """Weights count scored rows and leave the choices and fits as they are."""
        return self.results(once(self.setting.documents) if weights is None else weights[None])[0]

    def results(self, draws: Float[Tensor, "draws documents"]) -> list[Mapping[str, float | Missing]]:
        """Means over the labels that the token does not give away and that have rows of any weight on both sides."""
        probed = self.probed()
        if isinstance(probed, Missing) or not probed.headline.any():
            reason = (
                probed
                if isinstance(probed, Missing)
                else Missing(f"no label that takes more than the token to tell has {LEAST} rows of {LEAST_DOCUMENTS} documents on and off")
            )
            return [{column.name: reason for column in self.columns} for _ in draws]
        found = self.scores(probed, draws)
        self.drawn = found["auc_1"]
        headline = {name: values[probed.headline] for name, values in found.items()}
        means = {name: mean_of_known(values).tolist() for name, values in headline.items()}
        none = Missing("no label has rows of any weight on both sides")
        return [{name: none if np.isnan(found[index]) else found[index] for name, found in means.items()} for index in range(len(draws))]

    def details(self) -> Mapping[str, Any]:
        """Every label's numbers and the latents that tell it, the interval of auc_1 if draws were asked for, and the labels that had too few rows."""
        probed = self.probed()
        if isinstance(probed, Missing):
            return {}
        questions, found = probed.plain.questions, self.scores(probed, once(self.setting.documents))
        rows = {}
        for index, label in enumerate(probed.labels):
            numbers = {name: float(values[index, 0]) for name, values in found.items()}
            rows[questions.labels[label].name] = numbers | self.interval(index) | probed.facts(index)
        few = [label.name for label in questions.labels if label.name not in rows and (label.context or label.within is None)]
        return {"labels": rows, "too_few_rows": few}

    def interval(self, label: int) -> dict[str, list[float]]:
        """The middle 95% of a label's auc_1 over the draws after the first, if it has a number under all of them."""
        drawn: list[float] = [] if self.drawn is None else self.drawn[label, 1:].tolist()
        return {"interval": interval(drawn)} if drawn and np.isfinite(drawn).all() else {}
