"""All that is measured of how alike the contexts of some latents are: numbers for each latent, and their means."""

from dataclasses import dataclass
from functools import cached_property, lru_cache

import numpy as np
from jaxtyping import Float

from sae_bench_htopk.census import Estimate, Firings, Scores
from sae_bench_htopk.contexts import Contexts
from sae_bench_htopk.intruders import told_apart
from sae_bench_htopk.purity import cosines, random_pairs, token_purity

MEASURES = ("purity", "monosemanticity", "intruder")


@lru_cache(maxsize=2)
def random_pairs_once(contexts: Contexts, documents: int) -> tuple[Estimate, Estimate]:
    """Every document once: the same for every SAE."""
    return random_pairs(contexts, np.ones(documents))


@dataclass(frozen=True, eq=False)
class Likeness:
    """Of the latents in `firings`, each of which fires LEAST times or more; each document counted by its weight."""

    firings: Firings
    weights: Float[np.ndarray, " documents"]

    @cached_property
    def scores(self) -> dict[str, Scores]:
        """Each latent's, cosines with those of random pairs still in them; purity alone where contexts have no vectors."""
        found = {"purity": token_purity(self.firings, self.weights)}
        if self.firings.contexts.vectors is None:
            return found
        pairs, apart = cosines(self.firings, self.weights)
        return found | {"monosemanticity": pairs, "monosemanticity_apart": apart, "intruder": told_apart(self.firings, self.weights)}

    @cached_property
    def random(self) -> dict[str, Estimate]:
        """The cosines of random pairs."""
        contexts = self.firings.contexts
        found = random_pairs_once(contexts, len(self.weights)) if (self.weights == 1).all() else random_pairs(contexts, self.weights)
        return dict(zip(("monosemanticity", "monosemanticity_apart"), found, strict=True))

    def mean(self, name: str, share: Float[np.ndarray, " latents"] | None = None) -> Estimate:
        """Over latents alike, or by shares."""
        return self.less_random(name, self.scores[name].mean(share))

    def by_firing(self, name: str) -> Estimate:
        """Over firings alike."""
        return self.less_random(name, self.scores[name].mean_by_firing(self.firings, self.weights))

    def less_random(self, name: str, found: Estimate) -> Estimate:
        """What random pairs come to is 0: embeddings all point somewhat the same way."""
        return found - self.random[name] if name.startswith("monosemanticity") else found
