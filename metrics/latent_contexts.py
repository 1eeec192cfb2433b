"""Latents to look at: some drawn at random and those that serve labels best, each with the text on which it is strongest."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float, Int
from scipy import sparse
from torch import Tensor

from sae_bench_htopk.contract import Batch, Metric, Missing, Setting
from sae_bench_htopk.labels import Labels
from sae_bench_htopk.probing import firing_f1
from sae_bench_htopk.questions import Questions, questions_of
from sae_bench_htopk.sample import SampledCodes, sampled, shuffled
from sae_bench_htopk.top_contexts import AFTER, BEFORE, KEPT, PER_DOCUMENT, TopCodes, shown
from sae_bench_htopk.transcript import Transcript, follow

ROWS = 12_000
DRAWN = 6  # latents uniformly, and so many more by firing
CONTEXTS = 8  # of each latent
SERVED = 0.1  # what F1 must be above that of a latent that fires as often at random, for a latent to be said to serve a label
LABELS = 5  # named of each latent


def chances(latents: int, draw: int) -> Float[np.ndarray, " latents"]:
    """A number between 0 and 1 for each latent, from a fixed shuffle, another for each draw."""
    number = shuffled(np.arange(latents, dtype=np.uint64) | np.uint64(draw) << np.uint64(40))
    return (number.astype(np.float64) + 1) / 2.0**64


def uniformly(fired: Int[np.ndarray, " latents"]) -> list[int]:
    """DRAWN of the latents that fired at all, or all of them if they are fewer."""
    live = np.flatnonzero(fired)
    picked: list[int] = live[chances(len(fired), 0)[live].argsort(kind="stable")][:DRAWN].tolist()
    return picked


def by_firing(fired: Int[np.ndarray, " latents"]) -> list[int]:
    """DRAWN latents one after the other, none twice, each with a chance in proportion to its firings (Efraimidis and Spirakis 2006)."""
    live = np.flatnonzero(fired)
    picked: list[int] = live[(np.log(chances(len(fired), 1)[live]) / fired[live]).argsort(kind="stable")[::-1]][:DRAWN].tolist()
    return picked


class Service:
    """How well the firing of each latent tells each label on all sampled rows: F1, and what firing as often at random would reach."""

    def __init__(self, codes: sparse.csr_matrix, questions: Questions) -> None:
        tellable = questions.tellable
        self.labels = [questions.labels[label] for label in tellable]
        asked, carries = np.stack([questions.asked(label) for label in tellable], axis=1), questions.carries[:, tellable]
        on = asked & carries
        self.f1 = firing_f1(codes, on, asked & ~carries)
        fired, positives = ((codes > 0).T @ asked.astype(np.float64)).T, on.sum(0)[:, None]
        self.chance = 2 * fired * positives / asked.sum(0)[:, None] / (fired + positives)  # hits as many as expected

    def best(self) -> dict[str, int]:
        """For each headline label the latent that serves it best; none where none fires on it."""
        return {label.name: int(f1.argmax()) for label, f1 in zip(self.labels, self.f1, strict=True) if label.context and f1.max() > 0}

    def served(self, latent: int) -> list[list[str | float]]:
        """[label, F1, chance] of those that a latent serves, the best first."""
        above = self.f1[:, latent] >= self.chance[:, latent] + SERVED
        order = [place for place in (-self.f1[:, latent]).argsort(kind="stable") if above[place]][:LABELS]
        return [[self.labels[place].name, round(float(self.f1[place, latent]), 3), round(float(self.chance[place, latent]), 3)] for place in order]


class LatentContexts(Metric):
    """Latents to look at on a page of their own: how often they fire, what labels they serve, and their top contexts; no number to compare."""

    columns = ()

    def __init__(self, setting: Setting) -> None:
        super().__init__(setting)
        self.top, self.transcript, self.codes = TopCodes(setting.latents), Transcript.empty(), SampledCodes.empty(ROWS)
        self.texts = tuple[str, ...]()
        self.labels: Labels | None = None

    @classmethod
    def kept_bytes(cls, setting: Setting) -> tuple[int, int]:
        """Top codes of each latent, and the codes of the sample, of which up to twice as many rows are held until it is cut; tokens are shared."""
        return setting.usable * KEPT * 20 + 2 * ROWS * 12 * (setting.k or 0), 0

    def update(self, batch: Batch) -> None:
        """Keeps top codes, the codes of sampled rows, and the tokens, which all SAEs share."""
        text = batch.text
        self.top.add(batch.codes, text.document, text.position, text.massive)
        self.codes, self.transcript = sampled(self.codes, text, batch.codes), follow(self.transcript, text)
        self.texts, self.labels = tuple(text.texts), text.labels

    def result(self, weights: Float[Tensor, " documents"] | None) -> Mapping[str, float | Missing]:
        """Nothing: what is here is for the eye."""
        return {}

    def service(self) -> Service | Missing:
        """How well latents serve labels, or why nobody knows."""
        questions = questions_of(self.codes.sample, self.texts, self.labels)
        return questions if isinstance(questions, Missing) else Service(self.codes.matrix(self.setting.latents)[questions.rows], questions)

    def details(self) -> Mapping[str, Any]:
        """The latents that were chosen, with all that their page shows, and how they were; or why there are none."""
        if not self.top.rows or not self.top.fired.any():
            return {"none_shown": "no latent fired"}
        service = self.service()
        chosen: dict[int, list[str]] = {}
        for latent in uniformly(self.top.fired):
            chosen.setdefault(latent, []).append("drawn uniformly")
        for latent in by_firing(self.top.fired):
            chosen.setdefault(latent, []).append("drawn by firing")
        for label, latent in ({} if isinstance(service, Missing) else service.best()).items():
            chosen.setdefault(latent, []).append(f"best for {label}")
        latents = [one for latent, why in chosen.items() if (one := self.told(latent, why, service))["contexts"]]
        if not latents:
            return {"none_shown": "the places of tokens in their documents are not known"}
        counts = {"rows": self.top.rows, "live": int((self.top.fired > 0).sum()), "drawn": DRAWN, "served": SERVED}
        window = {"before": BEFORE, "after": AFTER, "kept": KEPT, "per_document": PER_DOCUMENT}
        return {**counts, **window, "shown_latents": latents} | ({"no_labels": service.reason} if isinstance(service, Missing) else {})

    def told(self, latent: int, why: Sequence[str], service: Service | Missing) -> dict[str, Any]:
        """One latent."""
        contexts = shown(self.top, latent, self.transcript, self.texts, CONTEXTS)
        labels = [] if isinstance(service, Missing) else service.served(latent)
        largest = float(f"{self.top.of(latent)[0][0]:.4g}")
        return {"latent": latent, "chosen": list(why), "fired": int(self.top.fired[latent]), "largest": largest, "labels": labels, "contexts": contexts}
