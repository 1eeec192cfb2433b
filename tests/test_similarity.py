"""RSA and CKA against rsatoolbox, scipy and Gram matrices, and weights against rows that are really repeated."""

import itertools
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy import sparse
from scipy.stats import rankdata, spearmanr
from torch import Tensor

from sae_bench_htopk.contract import Missing
from sae_bench_htopk.draws import Draws
from sae_bench_htopk.hsic import Streamed
from sae_bench_htopk.representations import Dense, Sparse
from sae_bench_htopk.similarity import BLOCK, Side, Similarity
from sae_bench_htopk.strata import Stratified, quotas, stratify
from tests.oracles.plain import biased_hsic, cka, dissimilarities, unbiased_hsic
from tests.oracles.rsa_rows import CASES
from tests.oracles.rsa_rows import two as waves

RSATOOLBOX = json.loads((Path(__file__).parent / "oracles" / "rsa_numbers.json").read_text(encoding="utf-8"))
MANY = BLOCK + 77  # more than a block, and a part of one
Rows = Tensor | sparse.csr_matrix


def two(rows: int = 40, d: int = 7, seed: int = 0, noise: float = 1.0, shift: float = 0.0) -> tuple[Tensor, Tensor]:
    """Rows and noisy copies of them."""
    random = torch.Generator().manual_seed(seed)
    x = torch.randn(rows, d, generator=random) + shift
    return x, x + noise * torch.randn(rows, d, generator=random)


def codes(rows: int = 60, latents: int = 50, seed: int = 0) -> sparse.csr_matrix:
    """Mostly zeros; a row without any, and latents that never fire."""
    random = np.random.default_rng(seed)
    dense = random.random((rows, latents)) * (random.random((rows, latents)) < 3 / np.arange(1, latents + 1))
    dense[3], dense[:, 40:] = 0, 0
    return sparse.csr_matrix(dense.astype(np.float32))


def compared(x: Tensor, other: Rows, document: np.ndarray | None = None, weights: list[list[float]] | None = None, width: int | None = None) -> Similarity:
    """Rows in order of their documents; without documents, each is one."""
    document = np.arange(len(x)) if document is None else document
    order = document.argsort(kind="stable")
    drawn = np.asarray(weights or [[1.0] * (int(document.max()) + 1)])
    first = Side(Dense(x[torch.from_numpy(order)]), Draws.of(document[order], drawn))
    held = Dense(other[torch.from_numpy(order)]) if isinstance(other, Tensor) else Sparse(other[order], width or other.shape[1])
    return Similarity(first, Side(held, first.draws, beside=first))


@pytest.mark.parametrize("case", CASES)
def test_rsa_is_what_rsatoolbox_says(case: str) -> None:
    """The file beside says how its numbers were made."""
    x, other = waves(case)
    held = sparse.csr_matrix(other.astype(np.float32)) if case == "codes" else torch.from_numpy(other).float()
    rsa, spearman = compared(torch.from_numpy(x).float(), held).rsa()
    assert rsa[0] == pytest.approx(RSATOOLBOX[case]["rsa"], abs=1e-5) and spearman[0] == pytest.approx(RSATOOLBOX[case]["rsa_spearman"], abs=1e-4)


@pytest.mark.parametrize(("d", "shift", "noise"), [(7, 0.0, 1.0), (80, 5.0, 1.0), (50, 0.0, 0.01)])
def test_rsa_over_several_blocks_is_the_correlation_of_upper_triangles(d: int, shift: float, noise: float) -> None:
    x, y = two(MANY, d, noise=noise, shift=shift)
    one, other = (dissimilarities(rows.double().numpy()) for rows in (x, y))
    rsa, spearman = compared(x, y, np.arange(MANY) % 30).rsa()
    assert rsa == pytest.approx([np.corrcoef(one, other)[0, 1]] * 2, abs=1e-5)
    assert spearman == pytest.approx([spearmanr(one, other).statistic] * 2, abs=1e-4)


def test_rows_that_are_nearly_all_alike_still_have_an_order() -> None:
    """A pattern that all rows share leaves dissimilarities of about 1e-4: less than most, and far more than a bin."""
    x, y = two(MANY, 30)
    common = 100 * torch.randn(30, generator=torch.Generator().manual_seed(1))
    one, other = (dissimilarities((rows + common).double().numpy()) for rows in (x, y))
    assert one.mean() < 3e-4
    rsa, spearman = compared(x + common, y + common).rsa()
    assert rsa[0] == pytest.approx(np.corrcoef(one, other)[0, 1], abs=0.01) and spearman[0] == pytest.approx(spearmanr(one, other).statistic, abs=0.01)


@pytest.mark.parametrize("kind", ["dense", "sparse"])
def test_equal_rows_are_ties(kind: str) -> None:
    """Each row is one of five: most of their dissimilarities are one of a few numbers, 0 among them."""
    x, few = two(MANY)[0], two(5, 30)[0].abs()
    y = few[torch.randint(5, (MANY,), generator=torch.Generator().manual_seed(0))]
    wanted = spearmanr(dissimilarities(x.double().numpy()), dissimilarities(y.double().numpy()).round(9)).statistic
    assert compared(x, y if kind == "dense" else sparse.csr_matrix(y.numpy())).rsa()[1][0] == pytest.approx(wanted, abs=1e-5)


@pytest.mark.parametrize("shift", [0.0, 100.0])
@pytest.mark.parametrize("d", [7, 80])
def test_cka_of_a_sample_is_the_ratio_of_hsics(shift: float, d: int) -> None:
    x, y = two(MANY, d, shift=shift)
    found, (a, b) = compared(x, y, np.arange(MANY) % 5), (rows.double().numpy() for rows in (x, y))
    assert found.cka() == pytest.approx([cka(a, b, unbiased_hsic)] * 2, abs=1e-5) and found.biased() == pytest.approx(cka(a, b, biased_hsic), abs=1e-5)


@pytest.mark.parametrize("shift", [0.0, 100.0])
def test_cka_of_a_stream_is_that_of_gram_matrices_whatever_the_cuts(shift: float) -> None:
    """Massive rows are left out; the first batch of one cut is all massive."""
    x, y = two(200, 20, shift=shift)
    massive = torch.arange(200) < 10
    x[massive] *= 1000
    a, b = (rows[~massive].double().numpy() for rows in (x, y))
    wanted = (cka(a, b, unbiased_hsic), cka(a, b, biased_hsic))
    for cuts in ([], [5, 30], [11, 12, 150]):
        streamed = Streamed()
        for start, end in itertools.pairwise([0, *cuts, 200]):
            streamed.add(x[start:end], y[start:end], massive[start:end])
        assert streamed.similarity() == pytest.approx(wanted, abs=1e-6)
        assert wanted[1] - wanted[0] > 0.01


def test_sparse_codes_are_compared_as_if_written_out() -> None:
    """Correlations count the latents that never fire, however many; the row without codes is like no other."""
    x, (held, width) = two(60)[0], (codes(), 70)
    dense = np.pad(held.toarray().astype(float), ((0, 0), (0, width - held.shape[1])))
    with np.errstate(invalid="ignore"):
        correlations = np.nan_to_num(np.corrcoef(dense))
    upper = np.triu_indices(60, k=1)
    one, other = dissimilarities(x.double().numpy()), 1 - correlations[upper]
    found = compared(x, held, width=width)
    assert found.rsa()[0][0] == pytest.approx(np.corrcoef(one, other)[0, 1], abs=1e-5)
    assert found.rsa()[1][0] == pytest.approx(spearmanr(one, other).statistic, abs=1e-3)
    assert found.cka()[0] == pytest.approx(cka(x.double().numpy(), dense, unbiased_hsic), abs=1e-5)
    assert found.biased() == pytest.approx(cka(x.double().numpy(), dense, biased_hsic), abs=1e-5)


@pytest.mark.parametrize("kind", ["dense", "sparse"])
def test_the_null_is_the_similarity_of_rows_half_a_sample_apart(kind: str) -> None:
    x, y = two(60)
    other: Rows = y if kind == "dense" else codes()
    rsa, debiased = compared(x, other).null()
    rolled = compared(x.roll(30, 0), other)
    assert rsa == pytest.approx(rolled.rsa()[0][0], abs=1e-5) and debiased == pytest.approx(rolled.cka()[0], abs=1e-5)
    assert abs(float(rsa)) < 0.2 and abs(float(debiased)) < 0.2


def test_rsa_with_weights_is_that_of_repeated_rows_without_pairs_of_a_row_with_its_copy() -> None:
    """Midranks stay those of the rows before they were repeated."""
    x, y = two(rows=18)
    document = np.arange(18) % 4
    counts = np.array([2.0, 0.0, 3.0, 1.0])
    repeated = np.repeat(np.arange(18), counts[document].astype(int))
    pairs = [(i, j) for i, j in itertools.combinations(repeated, 2) if i != j]
    found = compared(x, y, document, [counts.tolist()]).rsa()
    for answers, ranked in zip(found, (False, True), strict=True):
        one, other = np.zeros((2, 18, 18))
        for rows, matrix in ((x, one), (y, other)):
            values = dissimilarities(rows.double().numpy())
            matrix[np.triu_indices(18, k=1)] = rankdata(values) if ranked else values
        wanted = np.corrcoef([(one + one.T)[pair] for pair in pairs], [(other + other.T)[pair] for pair in pairs])[0, 1]
        assert answers[1] == pytest.approx(wanted, abs=1e-3 if ranked else 1e-5)  # two of 153 pairs may share a bin


@pytest.mark.parametrize("kind", ["dense", "sparse"])
def test_cka_with_weights_is_that_of_repeated_rows_over_quadruples_of_different_rows(kind: str) -> None:
    x, y = two(rows=7, d=3)
    document = np.array([0, 1, 2, 0, 1, 2, 3])
    counts = np.array([2.0, 1.0, 3.0, 0.0])
    other: Rows = y if kind == "dense" else codes(rows=7, latents=6, seed=1)
    a, b = x.double().numpy(), other.double().numpy() if isinstance(other, Tensor) else other.toarray().astype(float)
    K, L, weight = a @ a.T, b @ b.T, counts[document]

    def hsic(K: np.ndarray, L: np.ndarray) -> float:
        total = count = 0.0
        for i, j, q, r in itertools.permutations(range(7), 4):
            w = weight[i] * weight[j] * weight[q] * weight[r]
            total, count = total + w * K[i, j] * (L[i, j] + L[q, r] - 2 * L[i, q]), count + w
        return total / count

    wanted = hsic(K, L) / np.sqrt(hsic(K, K) * hsic(L, L))
    assert compared(x, other, document, [counts.tolist()]).cka()[1] == pytest.approx(wanted, abs=1e-5)


def test_resampled_documents_do_not_lift_what_is_independent() -> None:
    """A naive bootstrap, which lets a row meet its copy, gives 0.16 to 0.43 here; the biased CKA of so many features is about 0.67."""
    x, _ = two(rows=300, d=600)
    _, other = two(rows=300, d=600, seed=1)
    draws = np.random.default_rng(0).multinomial(30, np.full(30, 1 / 30), size=20).astype(float)
    found = compared(x, other, np.arange(300) % 30, draws.tolist())
    for answers in (*found.rsa(), found.cka()):
        assert abs(answers[0]) < 0.03 and abs(np.mean(answers[1:])) < 0.03
    assert found.biased() > 0.5


def test_what_cannot_be_compared_says_why() -> None:
    x, _ = two(rows=12)
    for constant in (torch.zeros(12, 7), torch.randn(7).expand(12, 7), torch.full((12, 7), 0.1), sparse.csr_matrix((12, 7), dtype=np.float32)):
        found = compared(x, constant.contiguous() if isinstance(constant, Tensor) else constant)
        for answer in (found.rsa()[0][0], found.rsa()[1][0], found.cka()[0], found.biased(), *found.null()):
            assert isinstance(answer, Missing)
        if isinstance(constant, Tensor):
            (streamed := Streamed()).add(x, constant, torch.zeros(12, dtype=torch.bool))
            assert all(isinstance(answer, Missing) for answer in streamed.similarity())
    found = compared(x, x, weights=[[1.0, 1, 1] + [0] * 9, [0] * 12, [1.0] * 12])
    for answers in (*found.rsa(), found.cka()):
        assert isinstance(answers[1], Missing) and isinstance(answers[2], Missing) and answers[3] == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize(
    ("limit", "lengths", "wanted"),
    [(10, [50, 30, 20], [5, 3, 2]), (10, [40, 35, 25], [4, 4, 2]), (7, [1, 1, 1], [3, 2, 2]), (2, [9, 1, 9], [1, 0, 1]), (5, [0, 0], [0, 0])],
)
def test_quotas_by_largest_remainder(limit: int, lengths: list[int], wanted: list[int]) -> None:
    assert quotas(limit, lengths).tolist() == wanted


def test_a_stratified_sample_is_the_same_for_any_order_of_rows_and_shared_by_all_who_see_the_same_text() -> None:
    random = torch.Generator().manual_seed(0)
    document = torch.arange(5).repeat_interleave(torch.tensor([40, 80, 4, 200, 76]))
    x, position, massive = torch.randn(400, 3, generator=random), torch.arange(400), torch.rand(400, generator=random) < 0.1
    massive[120:123] = True  # leaves one plain row to the shortest document
    whole = stratify(Stratified.empty(200, (40, 80, 4, 200, 76)), x, document, position, massive)[0]
    assert np.bincount(whole.document).tolist() == [20, 40, 1, 100, 38] and whole.massive == int(massive.sum())
    order, sample, held = torch.randperm(400, generator=random), Stratified.empty(200, (40, 80, 4, 200, 76)), torch.zeros(0, 3)
    for rows in order.split(90):
        piece = (x[rows], document[rows], position[rows], massive[rows])
        before, (sample, entering, kept) = sample, stratify(sample, *piece)
        assert stratify(before, *piece)[0] is sample
        held = torch.cat((held, x[rows][torch.from_numpy(entering)]))[torch.from_numpy(kept)]
    assert np.array_equal(sample.key, whole.key) and sample.massive == whole.massive
    assert whole.x is not None and torch.equal(held, whole.x) and sample.x is not None and torch.equal(sample.x, whole.x)
