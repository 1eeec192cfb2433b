"""Interpretability without a judge or labels: how alike the contexts are in which a latent fires."""

from collections.abc import Mapping
from functools import cached_property
from typing import Any

import numpy as np
from jaxtyping import Float
from torch import Tensor

from sae_bench_htopk.census import LEAST, Estimate, Firings
from sae_bench_htopk.contexts import Embed, contexts_of
from sae_bench_htopk.contract import Batch, Column, Metric, Missing, Setting
from sae_bench_htopk.latent_groups import Matching, Shells, bands, shells_of
from sae_bench_htopk.likeness import MEASURES, Likeness
from sae_bench_htopk.sample import SampledCodes, sampled
from sae_bench_htopk.transcript import Transcript, follow

ROWS = 12_000
FEWEST = 10  # latents in a band or a shell: of fewer no mean is told
NO_WEIGHT = Missing("no latent that is judged fires in rows of any weight")
NO_EMBEDDINGS = Missing("the language model gives no input embeddings to compare contexts by")


class LatentPurity(Metric):
    """Latent purity: how alike the contexts are in which one latent fires, by tokens and by embeddings, without labels and without a judge.

    A census: every latent that fires at least 10 times in a sample of 12,000 rows is judged, and which are does not depend on weights.
    Draws of documents are answered to first order in the weights (the infinitesimal jackknife); other weights exactly.
    """

    columns = (
        Column("purity", "higher", "how few tokens a latent fires on: 1 for one token alone, 0 for a random latent; every latent alike",
               formula="1 - H / H_random; H: mean over latents of the quadratic (Gini-Simpson) entropy of tokens, 1 - sum a_i a_j [same token] / sum a_i a_j "
               "over pairs of rows; H_random: that of all pairs of the sample, which a random latent has however often it fires",
               source="entropy: Simpson 1949, without bias over pairs; as a score of latents: ours",
               pitfall="lexical: a latent for a meaning with 20 words has .05; of Shannon's entropy nothing can be said from 10 firings"),
        Column("purity_firing", "higher", "purity where every firing counts alike", formula="as purity, latents weighted by firings", source="as purity",
               pitfall="as purity; a few dense latents may decide it"),
        Column("monosemanticity", "higher", "how alike the contexts are in which a latent fires; 0 for random rows",
               formula="mean over latents of sum a_i a_j cos(e_i, e_j) / sum a_i a_j over pairs of rows, less the mean cosine of all pairs of the sample; "
               "e: mean of the unit input embeddings of the token and the 7 before it",
               source="Pach et al. 2025 (arXiv:2504.02821), in linear time as in MonoLoss (arXiv:2602.12403)",
               pitfall="input embeddings know words, not meanings; rows near one another share most of their context, so latents that fire in runs gain",
               paired=True),
        Column("monosemanticity_firing", "higher", "monosemanticity where every firing counts alike", formula="as monosemanticity, latents weighted by firings",
               source="as monosemanticity", pitfall="as purity_firing"),
        Column("monosemanticity_apart", "higher", "monosemanticity over pairs of different documents alone, so that nothing is gained by firing in runs",
               formula="as monosemanticity, pairs of rows of one document left out, here and of the sample", source="ours",
               pitfall="says nothing of latents that fire in one document alone"),
        Column("intruder", "higher", "how often the one context of five in which a latent does not fire is the least like the others; chance is about 0.2",
               formula="share of 4 trials right, mean over latents; guess: the smallest mean cosine of e to the other four; four firings and a silent row, "
               "drawn at random until all five are of different documents",
               source="intruder detection: delphi (arXiv:2410.13928), by embeddings in place of a judge: ours",
               pitfall="as monosemanticity, whose embeddings it uses; latents that hardly fire in four documents are not asked; its intervals are about "
               "twice too wide, as all five documents answer for a trial's own chance", paired=True),
        Column("intruder_firing", "higher", "intruder where every firing counts alike", formula="as intruder, latents weighted by firings",
               source="as intruder", pitfall="as purity_firing"),
        Column("intruder_chance", "neither", "intruder of latents that fire as often on random rows: 0.2 but for the lengths of documents",
               formula="as intruder", source="ours"),
        Column("judged", "neither", "share of the latents in use that fire often enough to be judged", resampled=False,
               formula=f"latents of at least {LEAST} firings in the sample / latents in use", source="ours",
               pitfall="SAEs are judged by different shares: rare latents, often the purest, are left out"),
    )  # fmt: skip

    def __init__(self, setting: Setting) -> None:
        super().__init__(setting)
        self.codes, self.transcript = SampledCodes.empty(ROWS), Transcript.empty()
        self.embed: Embed | None = None
        self.draws: Float[np.ndarray, "draws documents"] | None = None

    @classmethod
    def kept_bytes(cls, setting: Setting) -> tuple[int, int]:
        """The codes of the sample, of which up to twice as many rows are held until it is cut."""
        return 2 * ROWS * 12 * (setting.k or 0), 0

    def update(self, batch: Batch) -> None:
        """Keeps the codes of the rows that enter the sample, where massive rows never are, and all tokens."""
        self.codes, self.transcript = sampled(self.codes, batch.text, batch.codes), follow(self.transcript, batch.text)
        self.embed = batch.text.embed
        for cached in ("firings", "once"):
            self.__dict__.pop(cached, None)

    def likeness(self, weights: Float[np.ndarray, " documents"]) -> Likeness | Missing:
        """Of all latents that are judged, or the reason why there are none."""
        if not self.codes.pieces or not len(self.codes.sample.order):
            return Missing("no held-out text")
        if not (weights[self.codes.sample.rows.document] > 0).any():
            return Missing("no rows with any weight")
        found = Likeness(self.firings.judged(), weights)
        return found if len(found.firings.names) else Missing(f"no latent fires on {LEAST} of the {len(self.codes.sample.order)} sampled rows")

    @cached_property
    def firings(self) -> Firings:
        """Of all latents, judged or not."""
        return Firings.of(self.codes, contexts_of(self.codes.sample, self.transcript, self.embed))

    @cached_property
    def once(self) -> Likeness | Missing:
        """Every document counted once."""
        return self.likeness(np.ones(self.setting.documents))

    def result(self, weights: Float[Tensor, " documents"] | None) -> Mapping[str, float | Missing]:
        """Every row, and every pair of rows, counted by the weights of their documents; exact."""
        found = self.once if weights is None else self.likeness(weights.cpu().double().numpy())
        estimates = self.estimates(found)
        return {name: estimate if isinstance(estimate, Missing) else estimate.value for name, estimate in estimates.items()}

    def estimates(self, found: Likeness | Missing) -> dict[str, Estimate | Missing]:
        """By column."""
        if isinstance(found, Missing):
            return {column.name: found for column in self.columns}
        answers: dict[str, Estimate | Missing] = {}
        for column in self.columns:
            name = column.name.removesuffix("_firing")
            if name == "judged":
                answers[name] = Estimate(len(found.firings.names) / self.setting.usable, np.zeros(self.setting.documents))
            elif name not in found.scores:
                answers[column.name] = NO_EMBEDDINGS
            else:
                estimate = found.mean(name) if name == column.name else found.by_firing(name)
                answers[column.name] = NO_WEIGHT if np.isnan(estimate.value) else estimate
        return answers

    def results(self, draws: Float[Tensor, "draws documents"]) -> list[Mapping[str, float | Missing]]:
        """All draws to first order around every document once, in one pass over the codes; no weight at all has no number."""
        given = draws.cpu().double().numpy()
        some = given.sum(1) > 0
        self.draws = given[some] if some.any() else None
        estimates = self.estimates(self.once)
        weights = np.where(some[:, None], given, 1.0)
        under = {name: [found] * len(draws) if isinstance(found, Missing) else found.under(weights).tolist() for name, found in estimates.items()}
        return [{name: values[index] for name, values in under.items()} if any_weight else self.result(draws[index]) for index, any_weight in enumerate(some)]

    def details(self) -> Mapping[str, Any]:
        """The same numbers by band of rank and by shell of the dictionary; intervals from the draws that `results` was given."""
        if isinstance(self.once, Missing):
            return {}
        shells = shells_of(self.setting)
        parts = {"bands": {name: self.band(firings.judged()) for name, firings in bands(self.firings)}}
        return parts if shells is None else parts | {"shells": self.by_shell(self.once, shells)}

    def band(self, firings: Firings) -> dict[str, Any]:
        """All numbers of the firings in one band, and how many latents are judged by them."""
        found = Likeness(firings, np.ones(self.setting.documents))
        told: dict[str, Any] = {"judged": len(firings.names)}
        for name in (name for name in MEASURES if name in found.scores and np.isfinite(found.scores[name].value).sum() >= FEWEST):
            told |= {name: found.mean(name).told(self.draws), f"{name}_firing": found.by_firing(name).told(self.draws)}
        return told

    def by_shell(self, found: Likeness, shells: Shells) -> dict[str, Any]:
        """Raw means, and means over latents that have every number, matched on how often they fire; and on how many latents these rest."""
        matching, scores = Matching.of(found.firings, shells), {name: found.scores[name] for name in MEASURES if name in found.scores}
        every = np.sum([score.value for score in scores.values()], axis=0)  # NaN where one is
        told: dict[str, Any] = {}
        for shell, shell_name in enumerate(shells.names):
            raw, share = matching.raw(shell), matching.matched(shell, every)
            told[shell_name] = {"judged": int(raw.sum()), "matched_latents": round(float(share.sum()))}
            for name, score in scores.items():
                enough = {"raw": raw[np.isfinite(score.value)].sum() >= FEWEST, "matched": round(float(share.sum())) >= FEWEST}
                shares = {"raw": raw, "matched": share}
                told[shell_name][name] = {how: found.mean(name, shares[how]).told(self.draws) if enough[how] else None for how in shares}
        return told
