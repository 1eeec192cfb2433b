"""All that is measured of how alike the contexts of some latents are: numbers for each latent, and their means."""

from dataclasses import dataclass
from functools import cached_property, lru_cache

import numpy as np
from jaxtyping import Float

from sae_bench_htopk.census import Estimate, Firings, Scores
from sae_bench_htopk.contexts import Contexts
from sae_bench_htopk.intruders import by_chance, told_apart
from sae_bench_htopk.purity import Pairs, cosines, random_pairs, same_token

MEASURES = ("purity", "monosemanticity", "intruder")


@lru_cache(maxsize=2)
def random_pairs_once(contexts: Contexts, documents: int) -> Pairs:
    """Every document once: the same for every SAE."""
    return random_pairs(contexts, np.ones(documents))


@dataclass(frozen=True, eq=False)
class Likeness:
    """Of the latents in `firings`, each document counted by its weight."""

    firings: Firings
    weights: Float[np.ndarray, " documents"]

    @cached_property
    def scores(self) -> dict[str, Scores]:
        """Each latent's, what random pairs come to still in them; by tokens alone where contexts have no vectors."""
        found = {"purity": same_token(self.firings, self.weights)}
        if self.firings.contexts.vectors is None:
            return found
        pairs, apart = cosines(self.firings, self.weights)
        told = {"intruder": told_apart(self.firings, self.weights), "intruder_chance": told_apart(by_chance(self.firings), self.weights)}
        return found | {"monosemanticity": pairs, "monosemanticity_apart": apart} | told

    @cached_property
    def random(self) -> Pairs:
        """What random pairs come to."""
        contexts = self.firings.contexts
        return random_pairs_once(contexts, len(self.weights)) if (self.weights == 1).all() else random_pairs(contexts, self.weights)

    def mean(self, name: str, share: Float[np.ndarray, " latents"] | None = None) -> Estimate:
        """Over latents alike, or by shares."""
        return self.above_random(name, self.scores[name].mean(share))

    def by_firing(self, name: str) -> Estimate:
        """Over firings alike."""
        return self.above_random(name, self.scores[name].mean_by_firing(self.firings, self.weights))

    def above_random(self, name: str, found: Estimate) -> Estimate:
        """0 is what random pairs come to: embeddings all point somewhat the same way, and frequent tokens meet often. 1 stays 1 for tokens."""
        random = {"purity": self.random.token, "monosemanticity": self.random.cosine, "monosemanticity_apart": self.random.apart}.get(name)
        if random is None:
            return found
        return (found - random).over(random.rest()) if name == "purity" else found - random
