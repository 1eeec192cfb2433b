"""Explained variance and its kin against scikit-learn, least squares and cases solved by hand; faulty formulas of other suites must fail them."""

from collections.abc import Callable

import pytest
import torch
from scipy.optimize import minimize_scalar
from sklearn.metrics import explained_variance_score, r2_score
from torch import Tensor

from sae_bench_htopk.contract import Missing
from tests.made_up_text import DOCUMENTS, LATENTS, made_up, numbers, read

Formula = Callable[[Tensor, Tensor], float]
ROWS, WIDTH = 400, 12


def stream(mean: float = 0.0, scale: float = 1.0, seed: int = 0) -> Tensor:
    """Rows of unequal length about a mean."""
    random = torch.Generator().manual_seed(seed)
    rows = torch.randn(ROWS, WIDTH, generator=random) * (0.2 + 2 * torch.rand(ROWS, 1, generator=random))
    return (rows - rows.mean(0)) * scale + mean


def ours(x: Tensor, x_hat: Tensor, column: str = "ev") -> float:
    """The metric's own number."""
    return numbers("explained_variance", read(x, x_hat, torch.arange(len(x)) % DOCUMENTS, torch.zeros(len(x), LATENTS), []))[column]  # type: ignore[return-value]


def about_zero(x: Tensor, x_hat: Tensor) -> float:
    """SAEBench at 8042bb3, SAELens up to 6.18: E[x^2] where E[x] belongs, and all dimensions as one (SAELens #659)."""
    total = x.square().sum(1).mean() - x.square().mean(0).mean().square()
    return float(1 - (x - x_hat).square().sum(1).mean() / total)


def ratios(x: Tensor, x_hat: Tensor) -> float:
    """SAELens' legacy number, that of SAEBench's paper: a mean of ratios."""
    return float(1 - ((x - x_hat).square().sum(1) / (x - x.mean(0)).square().sum(1)).mean())


def centred(x: Tensor, x_hat: Tensor) -> float:
    """dictionary_learning and KronSAE: the variance of what is left over, about its own mean."""
    return float(1 - (x - x_hat).var(0, unbiased=False).sum() / x.var(0, unbiased=False).sum())


def by_batch(x: Tensor, x_hat: Tensor) -> float:
    """dictionary_learning: a mean over batches, each about its own mean."""
    parts = zip(x.split(100), x_hat.split(100), strict=True)
    return float(torch.tensor([r2_score(one, other, multioutput="variance_weighted") for one, other in parts]).mean())


def uncentred(x: Tensor, x_hat: Tensor) -> float:
    """OpenAI's normalised error: over the mean square, row by row."""
    return float(1 - ((x - x_hat).square().mean(1) / x.square().mean(1)).mean())


def constant(formula: Formula) -> bool:
    """The mean explains nothing, wherever it is."""
    return all(abs(formula(x := stream(mean), x.mean(0).expand_as(x).contiguous())) < 1e-3 for mean in (0.0, 5.0, 300.0))


def offset(formula: Formula) -> bool:
    """A constant error is an error: one standard deviation in every dimension costs all."""
    x = stream(5.0)
    return abs(formula(x, x + x.std(0, unbiased=False))) < 1e-3


def halfway(formula: Formula) -> bool:
    """Half of the way from the mean to x explains three quarters; twice as far on the other side, -8."""
    x = stream(3.0)
    middle = x.mean(0)
    return abs(formula(x, (x + middle) / 2) - 0.75) < 1e-3 and abs(formula(x, middle - 2 * (x - middle)) + 8) < 1e-2


def noise(formula: Formula) -> bool:
    """Noise of one size on rows of unequal length: scikit-learn's number."""
    x = stream(2.0, 3.0)
    x_hat = x + torch.randn(x.shape, generator=torch.Generator().manual_seed(1))
    return abs(formula(x, x_hat) - r2_score(x.double(), x_hat.double(), multioutput="variance_weighted")) < 1e-4


def drift(formula: Formula) -> bool:
    """Text whose mean moves: the variance is about the mean of all of it."""
    x = torch.cat([stream(mean, seed=int(mean))[:100] for mean in (0.0, 1.0, 2.0, 3.0)])
    x_hat = x + torch.randn(x.shape, generator=torch.Generator().manual_seed(2))
    return abs(formula(x, x_hat) - r2_score(x.double(), x_hat.double(), multioutput="variance_weighted")) < 1e-4


@pytest.mark.parametrize("case", [constant, offset, halfway, noise, drift])
def test_ours_passes(case: Callable[[Formula], bool]) -> None:
    """Every case."""
    assert case(ours)


@pytest.mark.parametrize(
    ("formula", "case"),
    [(about_zero, constant), (about_zero, halfway), (ratios, noise), (centred, offset), (by_batch, drift), (uncentred, constant)],
)
def test_a_faulty_formula_fails(formula: Formula, case: Callable[[Formula], bool]) -> None:
    """The case that was made for it; and it passes another, so that it is the formula and not the test that is off."""
    assert not case(formula)
    x = stream()
    assert abs(formula(x, x) - 1) < 1e-2


@pytest.mark.parametrize("mean", [0.0, 5.0, 300.0])
def test_the_centred_number_is_scikit_learns_explained_variance(mean: float) -> None:
    """Which forgives an offset; and where rows are weighted, documents count as often as they were drawn."""
    x = stream(mean)
    x_hat = 0.8 * x + 2 + 0.3 * torch.randn(x.shape, generator=torch.Generator().manual_seed(3))
    weights, document = torch.tensor([2.0, 0, 1, 3, 1, 1, 0, 1, 2]), torch.arange(ROWS) % DOCUMENTS
    found = numbers("explained_variance", read(x, x_hat, document, torch.zeros(ROWS, LATENTS), []), weights)
    wanted = explained_variance_score(x.double(), x_hat.double(), sample_weight=weights[document], multioutput="variance_weighted")
    assert found["ev_centred"] == pytest.approx(wanted, abs=1e-4)
    assert found["ev"] == pytest.approx(r2_score(x.double(), x_hat.double(), sample_weight=weights[document], multioutput="variance_weighted"), abs=1e-4)
    assert ours(x, x + 2, "ev_centred") == pytest.approx(1, abs=1e-5)


def test_relative_bias_is_the_best_divisor() -> None:
    """Of x_hat, by least squares; 0.5 for half of x, 2 for its double."""
    x = stream(1.0)
    x_hat = 0.7 * x + 0.5 * torch.randn(x.shape, generator=torch.Generator().manual_seed(4))
    best = minimize_scalar(lambda g: float((x_hat.double() / g - x.double()).square().sum()), bracket=(0.5, 1.0)).x
    assert ours(x, x_hat, "relative_bias") == pytest.approx(best, rel=1e-4)
    assert ours(x, x / 2, "relative_bias") == pytest.approx(0.5) and ours(x, 2 * x, "relative_bias") == pytest.approx(2)
    assert isinstance(ours(x, -x, "relative_bias"), Missing) and isinstance(ours(x, 0 * x, "relative_bias"), Missing)


def test_the_legacy_number_is_a_mean_of_ratios_about_the_streams_mean() -> None:
    """A slow loop over plain rows; a row that is the mean itself has no ratio."""
    batch, mean = made_up(), torch.full((12,), 2.0)  # as measured() in tests/made_up_text.py has it
    batch.text.x[0] = mean
    batch.text.massive[0] = False
    shares = [
        float((x - x_hat).double().square().sum() / (x - mean).double().square().sum())
        for x, x_hat, massive in zip(batch.text.x, batch.x_hat, batch.text.massive, strict=True)
        if not massive and bool((x != mean).any())
    ]
    assert numbers("explained_variance", batch)["ev_legacy"] == pytest.approx(1 - sum(shares) / len(shares), rel=1e-6)
