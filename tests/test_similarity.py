"""RSA and debiased CKA against their textbook forms, and weights against rows that are really repeated."""

import itertools

import numpy as np
import pytest
import torch
from torch import Tensor

from sae_bench_htopk.contract import Missing
from sae_bench_htopk.similarity import Cka, Grouping, Rsa, dissimilarity, gram


def two(rows: int = 40, d: int = 7, seed: int = 0, noise: float = 1.0, shift: float = 0.0) -> tuple[Tensor, Tensor]:
    """Rows and noisy copies of them."""
    random = torch.Generator().manual_seed(seed)
    x = torch.randn(rows, d, generator=random) + shift
    return x, x + noise * torch.randn(rows, d, generator=random)


def measures(x: Tensor, y: Tensor, document: np.ndarray) -> tuple[Rsa, Cka]:
    """Both measures of rows in any order."""
    grouping = Grouping.of(document)
    x, y = x[torch.from_numpy(grouping.order)], y[torch.from_numpy(grouping.order)]
    return Rsa.of(grouping, dissimilarity(x), dissimilarity(y)), Cka.of(grouping, gram(x), gram(y))


def unbiased_hsic(K: np.ndarray, L: np.ndarray) -> float:
    """Song et al. 2012, equation 5, from Gram matrices."""
    n = len(K)
    K, L = K - np.diag(np.diag(K)), L - np.diag(np.diag(L))
    one = np.ones(n)
    return float((np.trace(K @ L) + (one @ K @ one) * (one @ L @ one) / ((n - 1) * (n - 2)) - 2 / (n - 2) * (one @ K @ L @ one)) / (n * (n - 3)))


@pytest.mark.parametrize("shift", [0.0, 5.0])
@pytest.mark.parametrize("d", [7, 80])
def test_rsa_is_the_correlation_of_upper_triangles(shift: float, d: int) -> None:
    x, y = two(d=d, shift=shift)
    upper = np.triu_indices(len(x), k=1)
    wanted = np.corrcoef((1 - np.corrcoef(x.numpy()))[upper], (1 - np.corrcoef(y.numpy()))[upper])[0, 1]
    document = np.random.default_rng(0).integers(0, 5, len(x))
    assert measures(x, y, document)[0](None) == pytest.approx(wanted, abs=1e-5)


@pytest.mark.parametrize("shift", [0.0, 5.0])
@pytest.mark.parametrize("d", [7, 80])
def test_cka_is_the_ratio_of_unbiased_hsics(shift: float, d: int) -> None:
    x, y = two(d=d, shift=shift)
    a, b = x.double().numpy(), y.double().numpy()
    K, L = a @ a.T, b @ b.T
    wanted = unbiased_hsic(K, L) / np.sqrt(unbiased_hsic(K, K) * unbiased_hsic(L, L))
    document = np.random.default_rng(0).integers(0, 5, len(x))
    assert measures(x, y, document)[1](None) == pytest.approx(wanted, abs=1e-5)


def test_rsa_with_weights_is_that_of_repeated_rows_without_pairs_of_a_row_with_its_copy() -> None:
    x, y = two(rows=18)
    document = np.arange(18) % 4
    counts = np.array([2.0, 0.0, 3.0, 1.0])
    repeated = np.repeat(np.arange(18), counts[document].astype(int))
    pairs = [(i, j) for i, j in itertools.combinations(repeated, 2) if i != j]
    one, other = (1 - np.corrcoef(rows.numpy()) for rows in (x, y))
    wanted = np.corrcoef([one[pair] for pair in pairs], [other[pair] for pair in pairs])[0, 1]
    assert measures(x, y, document)[0](counts) == pytest.approx(wanted, abs=1e-5)


def test_cka_with_weights_is_that_of_repeated_rows_over_quadruples_of_different_rows() -> None:
    x, y = two(rows=7, d=3)
    document = np.array([0, 1, 2, 0, 1, 2, 3])
    counts = np.array([2.0, 1.0, 3.0, 0.0])
    a, b = (rows.double().numpy() for rows in (x, y))
    K, L, weight = a @ a.T, b @ b.T, counts[document]

    def hsic(K: np.ndarray, L: np.ndarray) -> float:
        total = count = 0.0
        for i, j, q, r in itertools.permutations(range(7), 4):
            w = weight[i] * weight[j] * weight[q] * weight[r]
            total, count = total + w * K[i, j] * (L[i, j] + L[q, r] - 2 * L[i, q]), count + w
        return total / count

    wanted = hsic(K, L) / np.sqrt(hsic(K, K) * hsic(L, L))
    assert measures(x, y, document)[1](counts) == pytest.approx(wanted, abs=1e-5)


def test_a_representation_is_like_itself_and_independent_ones_are_alike_in_nothing() -> None:
    x, same = two(rows=300, d=600, noise=0.0)
    _, other = two(rows=300, d=600, seed=1)
    document = np.arange(300) % 30
    rsa, cka = measures(x, 3 * same + 1, document)
    assert rsa(None) == pytest.approx(1, abs=1e-5) and cka(None) == pytest.approx(1, abs=1e-5)
    rsa, cka = measures(x, other, document)
    assert abs(rsa(None)) < 0.03 and abs(cka(None)) < 0.03  # the biased CKA of such matrices is about 0.67


def test_resampled_documents_do_not_lift_what_is_independent() -> None:
    """A naive bootstrap, which lets a row meet its copy, gives 0.16 to 0.43 here."""
    x, _ = two(rows=300, d=50)
    _, other = two(rows=300, d=50, seed=1)
    rsa, cka = measures(x, other, np.arange(300) % 30)
    random = np.random.default_rng(0)
    draws = [random.multinomial(30, np.full(30, 1 / 30)).astype(float) for _ in range(20)]
    for measure in (rsa, cka):
        assert abs(np.mean([measure(draw) for draw in draws])) < 0.03


def test_what_cannot_be_compared_says_why() -> None:
    x, _ = two(rows=12)
    document = np.arange(12)
    for constant in (torch.zeros(12, 7), torch.randn(7).expand(12, 7), torch.full((12, 7), 0.1)):
        for measure in measures(x, constant.contiguous(), document):
            assert isinstance(measure(None), Missing)
    for measure in measures(x, x, document):
        assert isinstance(measure(np.eye(12)[0] + np.eye(12)[1] + np.eye(12)[2]), Missing)
        assert isinstance(measure(np.zeros(12)), Missing)
