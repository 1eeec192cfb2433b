"""Representational similarity: do activations that are alike have reconstructions, and codes, that are alike?"""

from collections.abc import Mapping
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from scipy import sparse
from torch import Tensor

from sae_bench_htopk.contract import Batch, Column, Metric, Missing, Setting
from sae_bench_htopk.draws import Draws
from sae_bench_htopk.hsic import MIN_ROWS, Streamed
from sae_bench_htopk.representations import Dense, Sparse
from sae_bench_htopk.sample import code_matrix
from sae_bench_htopk.similarity import Answers, Side, Similarity
from sae_bench_htopk.strata import Stratified, stratify

ROWS = 4096  # every pair of them is compared


@lru_cache(maxsize=1)
def side_of_x(sample: Stratified, weights: Float[Tensor, "draws documents"]) -> Side:
    """The sampled activations and their sums for these draws: the same for every SAE."""
    assert sample.x is not None
    return Side(Dense(sample.x), Draws.of(sample.document, weights.cpu().double().numpy()))


@lru_cache(maxsize=1)
def components(covariance: Float[Tensor, "d d"]) -> Float[Tensor, "d d"]:
    """The principal components as columns, the strongest first."""
    vectors: Tensor = torch.linalg.eigh(covariance.cpu().double()).eigenvectors
    return vectors.flip(1)


@lru_cache(maxsize=16)
def reference(x: Side, sample: Stratified, mean: Float[Tensor, " d"], covariance: Float[Tensor, "d d"], rank: int) -> tuple[Answers, Answers]:
    """RSA and CKA of x and its best linear reconstruction of that rank: the same for every SAE."""
    assert sample.x is not None
    basis, mean = components(covariance)[:, :rank], mean.cpu().double()
    x_hat = mean + (sample.x.double() - mean) @ basis @ basis.T
    found = Similarity(x, Side(Dense(x_hat.float()), x.draws, beside=x))
    return found.rsa()[0], found.cka()


class RepresentationalSimilarity(Metric):
    """Are activations that are alike still alike as reconstructions, and as codes? RSA and linear CKA; cka and cka_biased over all rows, all else on 4,096.

    RSA compares every row with every other, so it takes a sample: of each document its share by length. CKA of x and x_hat needs sums of
    d x d numbers alone and sees all rows. CKA of x and codes would need sums of latents x latents for each reading, 17 GB at 65,536
    latents, so it takes the sample too.
    """

    columns = (
        Column("rsa", "higher", "do rows that are alike in x stay alike in x_hat? on the sample",
               formula="Pearson correlation, over pairs of rows, of 1 - Pearson(x_i, x_j) and 1 - Pearson(x_hat_i, x_hat_j)",
               source="Kriegeskorte et al. 2008; Pearson as in progressive coding (arXiv:2505.00190)",
               pitfall="blind to scale: an untrained SAE whose explained variance is below 0 can have .7; an offset common to all rows moves it",
               paired=True),
        Column("rsa_spearman", "higher", "rsa, where only the order of dissimilarities counts", formula="as rsa, with Spearman's correlation",
               source="Kriegeskorte et al. 2008; Lan et al. 2024 (arXiv:2410.06981)",
               pitfall="ranks are those of the whole sample, also where documents are drawn anew"),
        Column("cka", "higher", "how far x and x_hat span the same directions, over all rows: 0 on average if they are independent", False,
               formula="HSIC(x, x_hat) / sqrt(HSIC(x, x) HSIC(x_hat, x_hat)), linear kernel, HSIC unbiased",
               source="Kornblith et al. 2019 (arXiv:1905.00414); HSIC: Song et al. 2012",
               pitfall="a few rows or dimensions of large norm decide it; its interval stands at cka_sample"),
        Column("cka_biased", "higher", "cka as first defined, over all rows", False,
               formula="||x^T x_hat||_F^2 / (||x^T x||_F ||x_hat^T x_hat||_F), columns centred", source="Kornblith et al. 2019 (arXiv:1905.00414)",
               pitfall="the more dimensions for each row, the nearer to 1 even for independent data"),
        Column("cka_sample", "higher", "cka on the rows that rsa is measured on: an interval over all rows would need their moments by document",
               formula="as cka", source="as cka", paired=True),
        Column("rsa_null", "neither", "rsa where each x meets the x_hat of another row: what no relation at all comes to", False,
               formula="rsa, x_hat of rows half the sample away", source="ours"),
        Column("cka_null", "neither", "cka_sample where each x meets the x_hat of another row", False, formula="as rsa_null", source="ours"),
        Column("rsa_pca", "neither", "rsa of what the training text's first k principal components keep of x", formula="rsa of x and mean + projection, rank k",
               source="ours", pitfall="a reference and no ceiling: an SAE chooses its k anew for each row, and passes it"),
        Column("cka_pca", "neither", "cka_sample of what these components keep of x", formula="as rsa_pca", source="ours", pitfall="as rsa_pca"),
        Column("codes_rsa", "higher", "do rows that are alike in x have codes that are alike? on the sample; another quantity than rsa",
               formula="as rsa, with a ||w|| of all usable latents in place of x_hat", source="as rsa",
               pitfall="superposition: latents are often farther from x than x_hat is, and need not be worse for it"),
        Column("codes_rsa_spearman", "higher", "codes_rsa, where only the order of dissimilarities counts", formula="as rsa_spearman",
               source="as rsa_spearman"),
        Column("codes_cka", "higher", "how far x and the codes vary together, on the sample: over all rows it would need sums of latents x latents numbers",
               formula="as cka, with a ||w|| in place of x_hat", source="as cka"),
        Column("codes_cka_biased", "higher", "codes_cka as first defined, on the sample", False, formula="as cka_biased", source="as cka_biased",
               pitfall="far above 0 even for independent rows, as latents are many: read it beside nothing but itself"),
        Column("codes_rsa_null", "neither", "codes_rsa where each x meets the codes of another row", False, formula="as rsa_null", source="ours"),
        Column("codes_cka_null", "neither", "codes_cka where each x meets the codes of another row", False, formula="as rsa_null", source="ours"),
    )  # fmt: skip

    def __init__(self, setting: Setting) -> None:
        super().__init__(setting)
        self.sample = Stratified.empty(ROWS, setting.rows or (1,) * setting.documents)
        self.x_hat, self.codes = torch.zeros(0, setting.d), sparse.csr_matrix((0, setting.latents), dtype=np.float32)
        self.streamed = Streamed()

    @classmethod
    def kept_bytes(cls, setting: Setting) -> tuple[int, int]:
        """On the host the sample's reconstructions and codes; beside the activations two sums of d x d numbers, those of x being shared."""
        sampled = min(ROWS, sum(setting.rows)) if setting.rows else ROWS
        return sampled * (4 * setting.d + 8 * (setting.k or 0)), 2 * 8 * (setting.d + 2) ** 2

    def update(self, batch: Batch) -> None:
        """Adds up moments, and keeps the reconstructions and codes of the rows that enter the sample; massive rows never do."""
        text = batch.text
        self.streamed.add(text.x, batch.x_hat, text.massive)
        self.sample, entering, kept = stratify(self.sample, text.x, text.document, text.position, text.massive)
        arrived = batch.x_hat[torch.from_numpy(entering).to(batch.x_hat.device)].float().cpu()
        self.x_hat = torch.cat((self.x_hat, arrived))[torch.from_numpy(kept)]
        self.codes = sparse.vstack((self.codes, code_matrix(batch.codes, entering, self.setting.latents)), format="csr")[kept]

    def result(self, weights: Float[Tensor, " documents"] | None) -> Mapping[str, float | Missing]:
        """Each pair (CKA: quadruple) of different rows counted by the product of its documents' weights; a row never meets its copy."""
        once = torch.ones(self.setting.documents) if weights is None else weights
        return self.results(once[None])[0]

    def results(self, draws: Float[Tensor, "draws documents"]) -> list[Mapping[str, float | Missing]]:
        """All draws in one pass over the pairs; columns that are not resampled are the same for every draw that has enough rows."""
        rows = len(self.sample.key)
        if rows < MIN_ROWS:
            reason = Missing(f"{rows} rows of held-out text, wanted at least {MIN_ROWS}")
            return [{column.name: reason for column in self.columns} for _ in draws]
        x = side_of_x(self.sample, draws)
        norms = np.ones(self.setting.latents) if self.setting.norms is None else self.setting.norms.cpu().double().numpy()
        codes = Sparse(self.codes.multiply(norms).tocsr(), self.setting.usable)
        found = self.of_x_hat(x) | {f"codes_{name}": value for name, value in compared(x, Side(codes, x.draws, beside=x)).items()}
        whole = dict(zip(("cka", "cka_biased"), self.streamed.similarity(), strict=True))
        found = {column.name: found[column.name] if column.name not in whole else whole[column.name] for column in self.columns}
        return [
            {name: few or (value[index] if isinstance(value, list) else value) for name, value in found.items()}
            for index, few in enumerate(x.draws.too_few())
            if index  # the first of `Draws` is none of these
        ]

    def of_x_hat(self, x: Side) -> dict[str, Answers | float | Missing]:
        """What is measured of the reconstructions on the sample."""
        found = compared(x, Side(Dense(self.x_hat), x.draws, beside=x))
        found["cka_sample"] = found["cka"]
        rank, known = self.setting.k, self.setting.statistics
        if rank is None or known is None:
            return found | dict.fromkeys(("rsa_pca", "cka_pca"), Missing("the reading's budget or the training text's covariance is not known"))
        return found | dict(zip(("rsa_pca", "cka_pca"), reference(x, self.sample, known.mean, known.covariance, rank), strict=True))

    def details(self) -> Mapping[str, Any]:
        """What the sample is."""
        rows = {"rows": len(self.sample.key), "documents": len(np.unique(self.sample.document)), "massive_rows_left_out": self.sample.massive}
        return {"sample": rows}


def compared(x: Side, other: Side) -> dict[str, Answers | float | Missing]:
    """Every measure of one side and x, for all draws or once."""
    found = Similarity(x, other)
    (rsa, spearman), (rsa_null, cka_null) = found.rsa(), found.null()
    cka, biased = found.cka(), found.biased()
    return {"rsa": rsa, "rsa_spearman": spearman, "cka": cka, "cka_biased": biased, "rsa_null": rsa_null, "cka_null": cka_null}
