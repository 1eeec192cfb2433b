"""Every metric on small made-up text: hand-solved cases, independent oracles, weights as repeated documents, any cut into batches."""

import itertools
import json

import numpy as np
import pytest
import torch
from scipy.stats import spearmanr
from sklearn.metrics import r2_score

from sae_bench_htopk import plugins
from sae_bench_htopk.contract import Batch, Missing, Setting
from sae_bench_htopk.sample import Sample, SampledCodes, grow, sampled
from sae_bench_htopk.transcript import NOTHING, Transcript, follow
from tests.made_up_text import DOCUMENTS, LATENTS, RANK, D, made_up, measured, numbers, part, ragged, read
from tests.oracles.plain import biased_hsic, cka, dissimilarities, unbiased_hsic

NAMES = [
    "explained_variance", "sparsity", "sparsity_curve", "downstream_loss", "representational_similarity", "sparse_probing", "absorption", "latent_purity",
    "latent_contexts",
]  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
def test_a_metric_answers_exactly_its_columns(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sae_bench_htopk.questions.LEAST", 3)  # so that this little text has labels within labels
    metric = measured(name, [made_up()])
    answer = metric.result(None)
    assert list(answer) == [column.name for column in metric.columns]
    assert all(isinstance(value, float) and np.isfinite(value) for value in answer.values()), answer
    assert json.loads(json.dumps(metric.details())) == metric.details()


@pytest.mark.parametrize("name", NAMES)
def test_the_cut_into_batches_does_not_matter(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = made_up()
    sampling = (("representational_similarity", 150), *((name, 600) for name in ("sparse_probing", "absorption", "latent_purity", "latent_contexts")))
    for module, limit in sampling:  # so that samples overflow, too
        monkeypatch.setattr(f"sae_bench_htopk.metrics.{module}.ROWS", limit)
    monkeypatch.setattr("sae_bench_htopk.questions.LEAST", 3)
    weights = torch.tensor([2.0, 0, 1, 3, 1, 1, 0, 1, 2])
    one, random = measured(name, [whole]), torch.Generator().manual_seed(5)
    for _ in range(3):
        order = torch.randperm(len(whole.x_hat), generator=random)
        cuts = torch.randint(1, len(order), (6,), generator=random).sort().values.tolist()
        many = measured(name, [part(whole, order[start:end]) for start, end in itertools.pairwise([0, *cuts, len(order)])])
        for given in (None, weights):
            assert many.result(given) == pytest.approx(one.result(given), abs=1e-6)
        assert many.details() == one.details()


@pytest.mark.parametrize("name", ["explained_variance", "sparsity", "sparsity_curve", "downstream_loss"])
def test_a_weight_is_a_number_of_copies_of_the_document(name: str) -> None:
    whole, counts = made_up(), [2, 0, 1, 3, 1, 1, 0, 1, 2]
    copies = [(document, copy) for document, count in enumerate(counts) for copy in range(count)]
    rows = [(whole.text.document == document).nonzero()[:, 0] for document, _ in copies]
    repeated = part(whole, torch.cat(rows))
    repeated.text.document[:] = torch.arange(len(copies)).repeat_interleave(torch.tensor([len(row) for row in rows]))
    wanted = measured(name, [repeated], len(copies)).result(None)
    assert numbers(name, whole, torch.tensor(counts).double()) == pytest.approx(wanted, abs=1e-9)


@pytest.mark.parametrize("name", NAMES)
def test_what_cannot_be_computed_says_why(name: str) -> None:
    metric = plugins.metric(name)(Setting(D, LATENTS, LATENTS, DOCUMENTS, 5))
    assert all(isinstance(value, Missing) for value in metric.result(None).values())
    nothing = numbers(name, made_up(), torch.zeros(DOCUMENTS))
    assert all(isinstance(value, Missing) and value.reason for value in nothing.values()), nothing


# explained variance


@pytest.mark.parametrize(("mean", "scale"), [(0.0, 1.0), (5.0, 1.0), (300.0, 1.0), (0.0, 1e-3), (-20.0, 25.0)])
def test_explained_variance_of_constant_perfect_and_halfway(mean: float, scale: float) -> None:
    x = scale * torch.randn(400, D, generator=torch.Generator().manual_seed(0), dtype=torch.float64) + mean
    x = x.float()
    document, codes = torch.arange(400) % DOCUMENTS, torch.zeros(400, LATENTS)
    middle = x.double().mean(0).float().expand_as(x)
    for x_hat, wanted in ((middle, 0.0), (x, 1.0), ((x + middle) / 2, 0.75), (x + 2 * (middle - x), -3.0)):
        found = numbers("explained_variance", read(x, x_hat.contiguous(), document, codes, []))
        assert found["ev"] == pytest.approx(wanted, abs=1e-4) and found["fvu"] == pytest.approx(1 - wanted, abs=1e-4)
    noisy = x + scale * torch.randn_like(x)
    ours = numbers("explained_variance", read(x, noisy, document, codes, []))["ev"]
    assert ours == pytest.approx(r2_score(x.double(), noisy.double(), multioutput="variance_weighted"), abs=1e-4)


def test_cosine_and_norm_by_hand_and_massive_rows_apart() -> None:
    x = torch.tensor([[3.0, 4.0], [3.0, 4.0], [0.0, 0.0], [0.0, 600.0], [1.0, 0.0]])
    x_hat = torch.tensor([[6.0, 8.0], [-4.0, 3.0], [1.0, 1.0], [0.0, 0.0], [0.0, 0.0]])
    massive = torch.tensor([False, False, False, True, False])
    found = numbers("explained_variance", read(x, x_hat, torch.arange(5), torch.zeros(5, LATENTS), [], massive))
    assert found["cosine"] == pytest.approx((1 + 0 + 0) / 3) and found["relative_norm"] == pytest.approx((2 + 1 + 0) / 3)
    assert found["massive_share"] == pytest.approx(0.2)
    plain = 25 + 25 + 0 + 1 - (7**2 + 8**2) / 4
    assert found["ev"] == pytest.approx(1 - (25 + 50 + 2 + 1) / plain)
    everything = 25 + 25 + 1 + 600**2 - (7**2 + 608**2) / 5
    assert found["ev_with_massive"] == pytest.approx(1 - (25 + 50 + 2 + 1 + 600**2) / everything)


def test_activations_that_do_not_vary_have_no_variance_to_explain() -> None:
    x = torch.full((30, 2), 0.1)
    found = numbers("explained_variance", read(x, x, torch.arange(30) % DOCUMENTS, torch.zeros(30, LATENTS), []))
    assert isinstance(found["ev"], Missing) and isinstance(found["fvu"], Missing) and found["cosine"] == pytest.approx(1)


# sparsity


def test_sparsity_is_what_counting_plain_rows_says() -> None:
    batch = made_up()
    fires = torch.zeros(len(batch.x_hat), LATENTS)
    fires[torch.arange(len(fires)).repeat_interleave(batch.codes.lengths()), batch.codes.latents] = 1
    fires = fires[~batch.text.massive].numpy()
    often = fires.mean(0)
    metric = measured("sparsity", [batch])
    assert metric.result(None) == pytest.approx(
        {
            "l0": fires.sum(1).mean(),
            **{f"l0_p{share:02}": np.quantile(fires.sum(1), share / 100, method="inverted_cdf") for share in (5, 25, 50, 75, 95)},
            "l0_ratio": fires.sum(1).mean() / 5,
            "dead": 2 / LATENTS,
            "dense": np.mean(often > 0.1),
            "density_median": np.median(often[often > 0]),
        }
    )
    details = metric.details()
    assert sum(details["latents"]) == LATENTS - 2 == LATENTS - details["dead"] and len(details["log10_frequency"]) == 21


@pytest.mark.parametrize(
    ("lengths", "wanted"), [([1, 1, 4, 4], (1, 1, 1, 4, 4)), ([0, 3, 9], (0, 0, 3, 9, 9)), ([2], (2,) * 5), ([0, 0, 0, 5], (0, 0, 0, 0, 5))]
)
def test_quantiles_of_the_number_of_codes(lengths: list[int], wanted: tuple[float, ...]) -> None:
    codes = (torch.arange(LATENTS) < torch.tensor(lengths)[:, None]).float()
    x = torch.randn(len(lengths), D)
    found = numbers("sparsity", read(x, x, torch.arange(len(lengths)), codes, []))
    assert tuple(found[f"l0_p{share:02}"] for share in (5, 25, 50, 75, 95)) == wanted


def test_codes_of_each_nested_dictionary() -> None:
    """Counted densely, plain rows alone; each holds those inside it, and the last holds all."""
    batch, shells = made_up(), torch.arange(LATENTS) // 15
    metric = plugins.metric("sparsity")(Setting(D, LATENTS, LATENTS, DOCUMENTS, 5, shells=shells))
    metric.update(batch)
    fires = torch.zeros(len(batch.x_hat), LATENTS)
    fires[torch.arange(len(fires)).repeat_interleave(batch.codes.lengths()), batch.codes.latents] = 1
    fires = fires[~batch.text.massive]
    levels = metric.details()["levels"]
    assert list(levels) == ["first 15", "first 30", "first 40"]
    for size, level in zip((15, 30, 40), levels.values(), strict=True):
        assert level["l0"] == pytest.approx(float(fires[:, :size].sum(1).mean()))
        assert level["l0_over_nominal"] == pytest.approx(float(fires[:, :size].sum(1).mean()) / (5 * size / 40))
        assert level["dead"] == pytest.approx(float((fires[:, :size].sum(0) == 0).float().mean()))
    assert levels["first 40"]["l0_over_nominal"] == pytest.approx(metric.result(None)["l0_ratio"])
    assert levels["first 40"]["l0"] == pytest.approx(metric.result(None)["l0"])
    fewer = plugins.metric("sparsity")(Setting(D, LATENTS, LATENTS - 1, DOCUMENTS, 5, shells=shells))
    fewer.update(batch)
    assert all(set(level) == {"l0"} for level in fewer.details()["levels"].values())


def test_an_sae_that_never_fires() -> None:
    x = torch.randn(5, D)
    found = numbers("sparsity", read(x, x, torch.arange(5), torch.zeros(5, LATENTS), []))
    assert (found["l0"], found["l0_p50"], found["dead"], found["dense"]) == (0, 0, 1, 0)
    assert isinstance(found["density_median"], Missing)


# downstream loss


def test_losses_are_means_over_rows_that_predict() -> None:
    batch = made_up()
    model, predicts = batch.text.model, batch.text.model.predicts
    found = numbers("downstream_loss", batch)
    runs = (model.clean, *model.spliced(batch.x_hat), *model.zero_ablated, *model.mean_ablated)
    clean, spliced, kl, agrees, zero, kl_zero, _, mean, kl_mean, _ = (float(values[predicts].double().mean()) for values in runs)
    assert 0.3 < agrees < 0.7
    assert found == pytest.approx(
        {
            "clean": clean,
            "spliced": spliced,
            "delta": spliced - clean,
            "score_zero": 1 - (spliced - clean) / (zero - clean),
            "score_mean": 1 - (spliced - clean) / (mean - clean),
            "zero_ablated": zero,
            "mean_ablated": mean,
            "kl": kl,
            "kl_score_mean": 1 - kl / kl_mean,
            "kl_zero": kl_zero,
            "kl_mean": kl_mean,
            "top1": agrees,
        }
    )


def test_splicing_the_activation_itself_costs_nothing() -> None:
    batch = made_up()
    found = numbers("downstream_loss", Batch(batch.text, batch.text.x, batch.codes))
    assert [found[column] for column in ("delta", "score_zero", "score_mean", "kl", "kl_score_mean", "top1")] == [0, 1, 1, 0, 1, 1]


def test_no_score_where_the_ablation_costs_nothing() -> None:
    x = torch.zeros(20, D)
    found = numbers("downstream_loss", read(x, x + 1, torch.arange(20) % DOCUMENTS, torch.zeros(20, LATENTS), []))
    assert isinstance(found["score_zero"], Missing) and found["delta"] == pytest.approx(1) and isinstance(found["score_mean"], float)
    found = numbers("downstream_loss", read(x + 0.1, x, torch.arange(20) % DOCUMENTS, torch.zeros(20, LATENTS), []))
    assert isinstance(reason := found["kl_score_mean"], Missing) and "mean ablation costs nothing (KL 0," in reason.reason


# representational similarity


def test_similarity_of_everything_to_itself_to_noise_and_to_a_constant() -> None:
    batch = made_up()
    same = numbers("representational_similarity", Batch(batch.text, 2 * batch.text.x, batch.codes))
    assert all(same[name] == pytest.approx(1, abs=1e-4) for name in ("rsa", "rsa_spearman", "cka", "cka_biased", "cka_sample"))
    noise = numbers("representational_similarity", Batch(batch.text, torch.randn_like(batch.x_hat), batch.codes))
    for name, value in noise.items():
        if not name.endswith(("pca", "biased")):  # the codes of this batch are noise, too
            assert abs(float(value)) < 0.05, name
    few = numbers("representational_similarity", part(batch, torch.arange(3)))
    assert isinstance(few["rsa"], Missing) and "3 rows" in few["rsa"].reason


def test_a_side_that_does_not_vary_is_like_nothing_and_the_other_keeps_its_numbers() -> None:
    batch = made_up()
    of_codes, of_neither = ("codes_rsa", "codes_cka", "codes_cka_biased"), ("rsa_pca", "cka_pca")
    for constant in (torch.zeros_like(batch.x_hat), torch.randn(D).expand_as(batch.x_hat).contiguous()):
        found = numbers("representational_similarity", Batch(batch.text, constant, batch.codes))
        for name, value in found.items():
            assert isinstance(value, Missing) != name.startswith(("codes", *of_neither)), name
    silent = numbers("representational_similarity", Batch(batch.text, batch.x_hat, ragged(torch.zeros(len(batch.x_hat), LATENTS))))
    assert all(isinstance(silent[name], Missing) for name in of_codes) and isinstance(silent["rsa"], float)


def test_similarity_is_that_of_all_plain_rows_if_the_sample_holds_them() -> None:
    """Every column against plain formulas: reconstructions, codes in units of decoder norms, and principal components."""
    batch, norms = made_up(), torch.linspace(0.5, 3, LATENTS)
    found = measured("representational_similarity", [batch], norms=norms).result(None)
    plain = ~batch.text.massive
    x, x_hat = (rows[plain].double().numpy() for rows in (batch.text.x, batch.x_hat))
    codes = torch.zeros(len(batch.x_hat), LATENTS)
    codes[torch.arange(len(codes)).repeat_interleave(batch.codes.lengths()), batch.codes.latents] = batch.codes.values
    pca = np.where(np.arange(D) < RANK, x, 2.0)
    for prefix, other in (("", x_hat), ("codes_", (codes * norms)[plain].double().numpy())):
        pairs = dissimilarities(x), dissimilarities(other)
        assert found[f"{prefix}rsa"] == pytest.approx(np.corrcoef(*pairs)[0, 1], abs=1e-5)
        assert found[f"{prefix}rsa_spearman"] == pytest.approx(spearmanr(*pairs).statistic, abs=1e-4)
        assert found[f"{prefix}cka"] == pytest.approx(cka(x, other, unbiased_hsic), abs=1e-6)
        assert found[f"{prefix}cka_biased"] == pytest.approx(cka(x, other, biased_hsic), abs=1e-6)
    assert found["cka_sample"] == pytest.approx(found["cka"], abs=1e-6)
    assert found["rsa_pca"] == pytest.approx(np.corrcoef(dissimilarities(x), dissimilarities(pca))[0, 1], abs=1e-5) and found["cka_pca"] == pytest.approx(
        cka(x, pca, unbiased_hsic), abs=1e-6
    )


@pytest.mark.parametrize("name", ["representational_similarity", "sparsity_curve"])
def test_draws_together_are_draws_one_by_one(name: str) -> None:
    metric = measured(name, [made_up()])
    draws = torch.tensor([[1.0] * 9, [2, 0, 1, 3, 1, 1, 0, 1, 2], [0] * 9, [0, 0, 0, 5, 0, 0, 0, 0, 1]])
    for draw, found in zip(draws, metric.results(draws), strict=True):
        alone = metric.result(draw)
        assert all(found[column] == (value if isinstance(value, Missing) else pytest.approx(value, abs=1e-6)) for column, value in alone.items())
    first = metric.columns[0].name
    assert [isinstance(found[first], Missing) for found in metric.results(draws)] == [False, False, True, False]


def test_a_sample_takes_of_each_document_its_share_and_leaves_massive_rows_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sae_bench_htopk.metrics.representational_similarity.ROWS", 50)
    whole = made_up()
    uneven = part(whole, torch.cat([(whole.text.document == document).nonzero()[: 10 * document + 10, 0] for document in range(DOCUMENTS)]))
    metric = measured("representational_similarity", [uneven])
    assert metric.details()["sample"] == {"rows": 50, "documents": DOCUMENTS, "massive_rows_left_out": int(uneven.text.massive.sum())}
    assert np.bincount(metric.sample.document).tolist() == [1, 2, 3, 4, 6, 7, 8, 9, 10]  # of documents of 10, 20, ..., 90 rows


def test_the_sample_is_the_rows_of_smallest_key_and_shared_by_saes_that_see_the_same_text() -> None:
    whole = made_up().text
    fields = (whole.x, whole.document, whole.position, whole.token, whole.span, whole.massive)
    everything = grow(Sample.empty(10_000), *fields).sample
    assert len(everything.rows.key) == int((~whole.massive).sum()) and (np.diff(everything.rows.key.astype(float)) >= 0).all()
    sample = Sample.empty(70)
    for start in range(0, len(whole.x), 100):
        piece = tuple(field[start : start + 100] for field in fields)
        before, sample = sample, grow(sample, *piece).sample
        assert grow(before, *piece).sample is sample
        assert sum(len(held.key) for held in sample.pieces) <= 140
    assert np.array_equal(sample.rows.key, everything.rows.key[:70]) and torch.equal(sample.rows.x, everything.rows.x[:70])
    assert len(np.unique(sample.rows.document)) == DOCUMENTS


def test_the_samples_codes_are_those_of_its_rows_in_their_order_and_shared_by_the_metrics_of_a_reading() -> None:
    """Whatever the cut; a matrix of some ranks holds the codes of those places in each row, and no others."""
    batch = made_up()
    dense = torch.zeros(len(batch.x_hat), LATENTS)
    dense[torch.arange(len(dense)).repeat_interleave(batch.codes.lengths()), batch.codes.latents] = batch.codes.values
    held = SampledCodes.empty(70)
    for start in range(0, len(dense), 100):
        piece = part(batch, torch.arange(start, min(start + 100, len(dense))))
        before, held = held, sampled(held, piece.text, piece.codes)
        assert sampled(before, piece.text, piece.codes) is held
    place = {(int(document), int(position)): row for row, (document, position) in enumerate(zip(batch.text.document, batch.text.position, strict=True))}
    rows = [place[int(document), int(position)] for document, position in zip(held.sample.rows.document, held.sample.rows.position, strict=True)]
    assert len(rows) == 70 and np.array_equal(held.matrix(LATENTS).toarray(), dense[rows].numpy())
    highest = dense[rows].sort(dim=1, descending=True).values
    second = held.matrix(LATENTS, 1, 2).toarray()
    assert np.array_equal(second.sum(1), highest[:, 1].numpy()) and ((second > 0).sum(1) <= 1).all()


def test_the_transcript_finds_the_tokens_around_a_row() -> None:
    """Across batches, within the document alone; what was not shown is NOTHING."""
    batch = made_up()
    transcript = Transcript.empty()
    for start in range(0, len(batch.x_hat), 250):
        text = part(batch, torch.arange(start, min(start + 250, len(batch.x_hat)))).text
        before, transcript = transcript, follow(transcript, text)
        assert follow(before, text) is transcript
    found = transcript.around(np.array([3, 0]), np.array([1, 99]), 2, 1)
    assert found.tolist() == [[NOTHING, 0, 1, 2], [47, 48, 49, NOTHING]]  # the token is the position modulo 50
