"""Sparsity: how many codes a row has, and how unequally the latents fire."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from jaxtyping import Float, Int
from scipy import sparse
from torch import Tensor

from sae_bench_htopk.contract import Batch, Column, Metric, Missing, Setting

SHARES = (5, 25, 50, 75, 95)  # percent of the rows
DENSE = 0.1  # a latent that fires on more rows than this tells little
DECADES, BINS = 6, 20  # of the histogram of firing frequencies


class Sparsity(Metric):
    """Codes per row, and latents that never fire or fire too often; massive rows left out."""

    columns = (
        Column("l0", "lower", "mean number of codes per row", formula="codes / rows", source="the field's",
               pitfall="with a threshold it is not k: compare at what was measured"),
        *(
            Column(f"l0_p{share:02}", "neither", f"number of codes that {share}% of the rows do not exceed", formula="the least such number", source="ours")
            for share in SHARES
        ),
        Column("l0_ratio", "neither", "codes per row over the k that was asked for; of each nested dictionary, over its share of k, among the details",
               formula="l0 / k; l0_over_nominal, of the codes inside the first s latents: their l0 / (k s / latents)", source="ours",
               pitfall="below 1 also where rows have fewer than k positive latents"),
        Column("dead", "lower", "share of the latents in use that never fire on the held-out text", resampled=False, formula="silent latents / latents in use",
               source="the field's", pitfall="less text, more of them"),
        Column("dense", "lower", "share of the latents in use that fire on more than 10% of rows", formula="latents above 0.1 / latents in use",
               source="SAEBench (arXiv:2503.09532)"),
        Column("density_median", "neither", "median firing frequency of the latents that fire at all", resampled=False,
               formula="median of rows with a code / rows", source="ours"),
    )  # fmt: skip

    def __init__(self, setting: Setting) -> None:
        super().__init__(setting)
        self.lengths = np.zeros((setting.documents, 1), dtype=np.int64)  # rows of each document by number of codes
        self.firing = sparse.csr_matrix((setting.documents, setting.latents), dtype=np.int32)  # counts, by document

    @classmethod
    def kept_bytes(cls, setting: Setting) -> tuple[int, int]:
        """Counts of the pairs of document and latent that met, at most one for each code, and rows by number of codes, up to twice k."""
        pairs, k = setting.documents * setting.usable, setting.k or 0
        met = min(pairs, k * sum(setting.rows)) if k and setting.rows else pairs
        return 8 * met + 8 * setting.documents * (2 * k + 1), 0

    def update(self, batch: Batch) -> None:
        """Counts rows by document and number of codes, and firings by document and latent."""
        plain = ~batch.text.massive.cpu().numpy()
        document, lengths = batch.text.document.cpu().numpy()[plain], batch.codes.lengths().cpu().numpy()[plain]
        longest = max(int(lengths.max(initial=0)) + 1, self.lengths.shape[1])
        counts = np.bincount(document * longest + lengths, minlength=self.setting.documents * longest).reshape(-1, longest)
        counts[:, : self.lengths.shape[1]] += self.lengths
        self.lengths = counts
        latents, offsets = batch.codes.latents.cpu().numpy(), batch.codes.offsets.cpu().numpy()
        shape = (len(plain), self.setting.latents)
        fires = sparse.csr_matrix((np.ones(len(latents), dtype=np.int32), latents, offsets), shape=shape)
        row = np.flatnonzero(plain)
        of_document = sparse.csr_matrix((np.ones(len(row), dtype=np.int32), (document, row)), shape=(self.setting.documents, len(plain)))
        self.firing = self.firing + of_document @ fires

    def frequencies(self, weights: Float[np.ndarray, " documents"]) -> Float[np.ndarray, " latents"]:
        """Share of rows on which each latent fires; there must be rows."""
        frequencies: np.ndarray = (self.firing.T @ weights) / (weights @ self.lengths.sum(1))
        return frequencies

    def result(self, weights: Float[Tensor, " documents"] | None) -> Mapping[str, float | Missing]:
        """All numbers, each document's rows counted `weights` times."""
        once = np.ones(self.setting.documents) if weights is None else weights.cpu().numpy().astype(np.float64)
        rows = once @ self.lengths
        if not rows.sum():
            return {column.name: Missing("no rows with any weight") for column in self.columns}
        often = self.frequencies(once)
        live = often[often > 0]
        return {
            "l0": float(rows @ np.arange(len(rows)) / rows.sum()),
            **{f"l0_p{share:02}": quantile(rows, share / 100) for share in SHARES},
            "l0_ratio": float(rows @ np.arange(len(rows)) / rows.sum()) / self.setting.k if self.setting.k else Missing("the reading's k is not known"),
            "dead": 1 - len(live) / self.setting.usable,
            "dense": float(np.sum(often > DENSE)) / self.setting.usable,
            "density_median": float(np.median(live)) if len(live) else Missing("no latent fires"),
        }

    def details(self) -> Mapping[str, Any]:
        """A histogram of the firing frequencies of live latents on a log scale; what fires less than once in 10^6 rows is in the first bin."""
        if not self.lengths.sum():
            return {}
        often = self.frequencies(np.ones(self.setting.documents))
        exponents = np.log10(often[often > 0]).clip(-DECADES, 0)
        counts, edges = np.histogram(exponents, bins=BINS, range=(-DECADES, 0))
        histogram = {"log10_frequency": edges.round(6).tolist(), "latents": counts.tolist(), "dead": self.setting.usable - int((often > 0).sum())}
        return histogram | ({"levels": levels} if len(levels := self.levels(often)) > 1 else {})

    def levels(self, often: Float[np.ndarray, " latents"]) -> dict[str, dict[str, float]]:
        """For each nested dictionary the codes per row that lie in it, and what `beside` says."""
        shells = np.zeros(len(often), dtype=int) if self.setting.shells is None else self.setting.shells.cpu().numpy()
        inside = {size: often[shells <= shell] for shell in range(int(shells.max()) + 1) if (size := int((shells <= shell).sum()))}
        return {f"first {size:,}": {"l0": float(some.sum())} | self.beside(some) for size, some in inside.items()}

    def beside(self, some: Float[np.ndarray, " inside"]) -> dict[str, float]:
        """Of a nested dictionary: its codes per row over its share of k, and the share of its latents that never fire.

        Nothing where the reading may not use all latents: then it has no such share, and latents are silent that may not fire.
        """
        if self.setting.usable < self.setting.latents:
            return {}
        nominal = (self.setting.k or 0) * len(some) / self.setting.latents
        return ({"l0_over_nominal": float(some.sum()) / nominal} if nominal else {}) | {"dead": float((some == 0).mean())}


def quantile(rows: Float[np.ndarray, " lengths"] | Int[np.ndarray, " lengths"], share: float) -> float:
    """Of 0, 1, 2, ..., each as often as `rows` says, the least that is not exceeded by that share of them."""
    return float(np.searchsorted(rows.cumsum(), share * rows.sum() * (1 - 1e-12), side="left"))
