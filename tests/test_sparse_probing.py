"""Sparse probing on made-up text: planted latents are found, noise is not, nothing leaks, and every fit and score is scikit-learn's."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import product
from typing import Any

import numpy as np
import pytest
import torch
from scipy import sparse
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import balanced_accuracy_score, f1_score, precision_score, recall_score, roc_auc_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import Normalizer, OneHotEncoder, StandardScaler

from sae_bench_htopk import plugins, resampling
from sae_bench_htopk.contract import Batch, Missing, Setting
from sae_bench_htopk.floors import directions
from sae_bench_htopk.labels import Label, Labels
from sae_bench_htopk.logistic import decisions, token_odds
from sae_bench_htopk.probing import probes
from sae_bench_htopk.python_labels import LABELS, PythonLabels, token_labels
from sae_bench_htopk.questions import CHOOSE, FIT, LEAST, SCORE, Questions, parts
from sae_bench_htopk.scoring import RankedScores, Tally, mean_of_known
from tests.made_up_text import LATENTS, SOURCE, D, made_up, measured, part, ragged

WITHIN = {label.name: label.within for label in PythonLabels.labels}
COLUMNS = ("auc_1", "auc_2", "auc_5", "balanced_1", "f1", "baseline_channel", "baseline_full", "floor_token", "floor_random", "floor_shuffled", "floor_f1")


def labelled(seed: int = 0, documents: int = 12) -> tuple[Batch, np.ndarray]:
    """Text whose tokens have labels, with codes of pure noise; and the labels [rows, labels]."""
    batch = made_up(seed, rows=len(SOURCE) // 3, documents=documents)
    labels = np.zeros((len(batch.x_hat), len(LABELS)), dtype=bool)
    for index, text in enumerate(batch.text.texts):
        here = (batch.text.document == index).numpy()
        labels[here] = token_labels(text, batch.text.span[here].numpy())
    return batch, labels


def planted(batch: Batch, columns: Mapping[int, np.ndarray]) -> Batch:
    """The batch with codes of noise, but for some latents."""
    random = torch.rand(len(batch.x_hat), LATENTS, generator=torch.Generator().manual_seed(3))
    codes = (random - 0.8).relu()
    for latent, values in columns.items():
        codes[:, latent] = torch.from_numpy(values).float()
    return Batch(batch.text, batch.x_hat, ragged(codes))


def dense(batch: Batch) -> np.ndarray:
    """The codes as [rows, latents]."""
    codes = np.zeros((len(batch.x_hat), LATENTS))
    codes[np.repeat(np.arange(len(codes)), batch.codes.lengths().numpy()), batch.codes.latents.numpy()] = batch.codes.values.numpy()
    return codes


def told(batch: Batch) -> tuple[Mapping[str, float | Missing], Mapping[str, Mapping[str, Any]]]:
    """A metric's columns and its labels' details."""
    metric = measured("sparse_probing", [batch], len(batch.text.texts))
    return metric.result(None), metric.details()["labels"]


def test_a_planted_latent_tells_its_label_and_noise_tells_none() -> None:
    """The headline is the mean over the labels that take context; those asked within keywords are not probed."""
    batch, labels = labelled()
    strength = np.random.default_rng(0).uniform(0.5, 1, len(labels))
    found, details = told(planted(batch, {latent: labels[:, latent] * strength for latent in range(len(LABELS))}))
    context = [name for name, scores in details.items() if scores["context"]]
    assert len(details) >= 7 and len(context) >= 4 and {"string", "comment"} <= set(details) - set(context)
    assert not [name for name in details if name.startswith("keyword_")]
    for name, scores in details.items():
        assert scores["firing_latent"] == LABELS.index(name), name
        assert name == "docstring" or scores["latents"][0] == LABELS.index(name), name  # a string, here, is a docstring where it is no argument
        assert [scores[way] for way in ("auc_1", "f1", "precision", "recall")] == pytest.approx([1] * 4), name
    assert found["balanced_1"] == pytest.approx(1) and found["auc_5"] > 0.99
    noise, alone = told(planted(batch, {}))
    chance = ("auc_1", "auc_2", "auc_5", "balanced_1", "baseline_channel", "baseline_full", "floor_random", "floor_shuffled")
    assert all(abs(float(noise[name]) - 0.5) < 0.08 for name in chance), noise
    assert all(noise[name] == pytest.approx(np.mean([alone[label][name] for label in context])) for name in COLUMNS)


def test_shuffled_labels_are_told_by_chance_alone_though_the_label_itself_is_known() -> None:
    """Dealt out within each part among the rows that are asked, so that as many are on: moved on together, and far enough."""
    batch, labels = labelled(documents=24)
    found, details = told(planted(batch, {latent: 1.0 * labels[:, latent] for latent in range(len(LABELS))}))
    assert found["auc_1"] == pytest.approx(1) and abs(float(found["floor_shuffled"]) - 0.5) < 0.05
    assert all(abs(scores["floor_shuffled"] - 0.5) < 0.15 for scores in details.values())
    names = (Label("all", ""), Label("some", "", within="all"))
    random = np.random.default_rng(0)
    carries = np.stack([(every := random.random(900) < 0.5), every & (random.random(900) < 0.3)], axis=1)
    true = Questions(names, np.arange(900), carries, np.arange(900) % 9, random.permutation(900), np.arange(9))
    assert len(true.shuffled) == 3
    for shuffled, label, which in product(true.shuffled, range(2), (CHOOSE, FIT, SCORE)):
        rows = true.rows_of(label, which)
        assert np.array_equal(shuffled.rows_of(label, which), rows)
        rows = np.array(sorted(rows, key=lambda row: (true.document[row], true.position[row])))  # type: ignore[index]
        before, after = carries[rows, label].tolist(), shuffled.carries[rows, label].tolist()
        moves = [places for places in range(len(rows)) if before[places:] + before[:places] == after]
        assert len(moves) == 1 and 0.2 < moves[0] / len(rows) < 0.8
    alone = Questions(names[:1], np.arange(900), carries[:, :1], np.arange(900), None, np.arange(900)).shuffled[0]
    assert all(alone.carries[alone.part == which].sum() == carries[alone.part == which, 0].sum() for which in (CHOOSE, FIT, SCORE))


def test_shuffled_labels_stray_from_a_half_as_far_as_labels_of_documents_that_mean_nothing() -> None:
    """Latents that fire by the document: a label of a few documents is told far off a half, and so are shifted ones; rows dealt singly are not."""
    random, rows, count = np.random.default_rng(0), 60, 30
    document, position = np.arange(count).repeat(rows), np.tile(np.arange(rows), count)
    codes = sparse.csr_matrix(random.standard_normal((count, 100))[document] + 0.5 * random.standard_normal((count * rows, 100)) > 0).astype(float)
    dealt = Questions((), np.arange(len(document)), np.zeros((len(document), 0), dtype=bool), document, position, np.arange(count)).parts
    on = np.zeros((count, 40), dtype=bool)
    for label, which in product(range(40), (CHOOSE, FIT, SCORE)):
        on[random.permutation(np.flatnonzero(dealt == which))[:3], label] = True
    labels = tuple(Label(str(label), "") for label in range(40))
    true = Questions(labels, np.arange(len(document)), on[document], document, position, np.arange(count))
    singly = np.empty_like(true.carries)
    for label, which in product(range(40), (CHOOSE, FIT, SCORE)):
        here = true.rows_of(label, which)
        singly[here, label] = random.permutation(true.carries[here, label])

    def spread(asked: Questions) -> float:
        return float(np.std([told.ranked.auc(np.ones((1, count))) for (told,) in probes(codes, asked, range(40), (1,))]))

    chance, shifted, alone = spread(true), np.mean([spread(one) for one in true.shuffled]), spread(replace(true, carries=singly))
    assert chance > 0.08 and shifted > 0.6 * chance and alone < 0.25 * chance


def test_a_latent_that_falls_silent_on_a_label_tells_it_too_and_channels_are_probed_alike() -> None:
    """A channel, and so the ceiling, that knows the label."""
    batch, labels = labelled()
    string = LABELS.index("string")
    x = batch.text.x.clone()
    x[:, 4] = torch.from_numpy(np.where(labels[:, string], 9.0, -9.0)).float()
    _, details = told(planted(replace(batch, text=replace(batch.text, x=x)), {5: 2.0 * ~labels[:, string]}))
    assert details["string"]["latents"][0] == 5 and details["string"]["auc_1"] == pytest.approx(1)
    assert details["string"]["f1"] < 0.6 and details["string"]["baseline_channel"] == details["string"]["baseline_full"] == pytest.approx(1)


def test_a_token_that_gives_its_label_away_is_what_the_floor_sees() -> None:
    """Token 7 wherever there is a string; elsewhere any token."""
    batch, labels = labelled()
    token = torch.where(torch.from_numpy(labels[:, LABELS.index("string")]), 7, 10 + batch.text.token)
    _, details = told(replace(batch, text=replace(batch.text, token=token)))
    assert details["string"]["floor_token"] == pytest.approx(1) and details["argument"]["floor_token"] < 0.9


def test_every_number_of_a_label_is_what_plain_loops_and_sklearn_say() -> None:
    """Search, fit, floors and scores written out for one label of each kind: asked of all rows, and asked of strings alone."""
    batch, labels = labelled(documents=24)
    batch = planted(
        batch, {5: np.random.default_rng(1).exponential(size=len(labels)) * (labels[:, LABELS.index("argument")] ^ (np.arange(len(labels)) % 3 == 0))}
    )
    _, details = told(batch)
    codes, x, token = dense(batch), batch.text.x.double().numpy(), batch.text.token.numpy()
    part_of = parts(batch.text.texts)[batch.text.document.numpy()]
    for name in ("argument", "docstring"):
        label, plain = labels[:, LABELS.index(name)], ~batch.text.massive.numpy()
        asked = plain & (labels[:, LABELS.index(within)] if (within := WITHIN[name]) else True)
        choose, fit, score = (np.flatnonzero(asked & (part_of == which)) for which in (CHOOSE, FIT, SCORE))

        def strongest(features: np.ndarray, rows: np.ndarray = choose, on: np.ndarray = label) -> list[int]:
            apart = [abs(column[rows[on[rows]]].mean() - column[rows[~on[rows]]].mean()) for column in features.T]
            return sorted(range(len(apart)), key=lambda index: (-apart[index], index))

        def fitted(features: np.ndarray, scaler: Any, rows: np.ndarray = fit, scored: np.ndarray = score, on: np.ndarray = label) -> np.ndarray:
            model = make_pipeline(scaler, LogisticRegression(class_weight="balanced", max_iter=1000, tol=1e-8)).fit(features[rows], on[rows])
            return np.asarray(model.decision_function(features[scored]))

        found, best = details[name], strongest(codes)
        assert found["latents"] == best[:5] and (found["rows_on"], found["rows_off"]) == (int((asked & label).sum()), int((asked & ~label).sum()))
        for count in (1, 2, 5):
            odds = fitted(codes[:, best[:count]], StandardScaler())
            assert found[f"auc_{count}"] == pytest.approx(roc_auc_score(label[score], odds), abs=1e-6)
            if count == 1:
                assert found["balanced_1"] == pytest.approx(balanced_accuracy_score(label[score], odds > 0))
        assert found["floor_f1"] == pytest.approx(f1_score(label[score], np.ones(len(score))))
        channel = strongest(x)[0]
        assert found["baseline_channel"] == pytest.approx(roc_auc_score(label[score], fitted(x[:, [channel]], StandardScaler())), abs=1e-6)
        assert found["baseline_full"] == pytest.approx(roc_auc_score(label[score], fitted(x, StandardScaler(), np.append(choose, fit))), abs=1e-3)
        every = np.flatnonzero((labels[:, LABELS.index(within)] if within else True) & (part_of != SCORE))
        words = OneHotEncoder(handle_unknown="ignore")
        assert len(every) > len(choose) + len(fit)  # massive rows spell tokens, too
        assert found["floor_token"] == pytest.approx(roc_auc_score(label[score], fitted(token[:, None], words, every).round(6)), abs=1e-6)
        fires = codes > 0
        latent = max(range(LATENTS), key=lambda index: f1_score(label[choose], fires[choose, index]))
        assert found["firing_latent"] == latent
        for way, right in (("f1", f1_score), ("precision", precision_score), ("recall", recall_score)):
            assert found[way] == pytest.approx(right(label[score], fires[score, latent]))


def test_log_odds_of_tokens_are_sklearns_on_all_rows() -> None:
    """Of rows one by one; of a token in none of them, the intercept."""
    random = np.random.default_rng(0)
    for often in (0.02, 0.5):
        token = (random.exponential(size=3000) * 20).astype(int)
        label = random.random(3000) < np.where(token % 7 == 0, 0.9, often)
        model = make_pipeline(OneHotEncoder(handle_unknown="ignore"), LogisticRegression(class_weight="balanced", max_iter=10_000, tol=1e-10))
        model.fit(token[:, None], label)
        found = token_odds(*(np.bincount(token[label == side], minlength=500) for side in (True, False)))
        assert found == pytest.approx(model.decision_function(np.arange(500)[:, None]), abs=1e-4)
        assert found[499] == pytest.approx(model[-1].intercept_[0], abs=1e-4)


def test_the_token_floor_knows_all_tokens_and_not_the_sampled_ones_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """A label that hangs on which of 400 tokens it is: a tenth of the rows does not tell of each, all of them do."""
    monkeypatch.setattr("sae_bench_htopk.metrics.sparse_probing.ROWS", 1200)
    batch = made_up(rows=400, documents=30)
    draw = np.random.default_rng(0)
    token, texts = draw.integers(0, 400, len(batch.x_hat)), [" ".join(map(str, draw.integers(0, 10_000, 300))) for _ in range(30)]
    on = token % 3 == 0
    known = {(document, 3 * position): label for document, position, label in zip(batch.text.document.tolist(), batch.text.position.tolist(), on, strict=True)}
    metric = measured("sparse_probing", [replace(batch, text=replace(batch.text, texts=texts, token=torch.from_numpy(token), labels=Told(known)))], 30)
    found = metric.result(None)
    assert metric.codes.sample.limit == 1200 and found["floor_token"] == pytest.approx(1)  # type: ignore[attr-defined]
    sample = metric.codes.sample.rows  # type: ignore[attr-defined]
    dealt, label = parts(texts)[sample.document], sample.token % 3 == 0
    model = make_pipeline(OneHotEncoder(handle_unknown="ignore"), LogisticRegression(class_weight="balanced", max_iter=1000))
    model.fit(sample.token[dealt == FIT, None], label[dealt == FIT])
    assert roc_auc_score(label[dealt == SCORE], model.decision_function(sample.token[dealt == SCORE, None])) < 0.95


@dataclass(frozen=True, eq=False)
class Told:
    """A label that is known by document and first character."""

    known: Mapping[tuple[int, int], bool]
    labels: tuple[Label, ...] = (Label("on", ""),)
    whole: bool = False

    def of(self, document: int, text: str, span: np.ndarray) -> np.ndarray:
        """As was told."""
        return np.array([[self.known[document, start]] for start in span[:, 0].tolist()])


def test_a_label_of_one_document_is_not_told() -> None:
    """Three documents of each third must carry it, and three lack it; near-duplicates are one."""
    document = np.arange(30).repeat(100)
    for near, carriers, told in ((0, 3, True), (0, 2, False), (1, 3, False), (1, 4, True)):
        groups = np.arange(30)
        dealt = Questions((), document, np.zeros((3000, 0), dtype=bool), document, None, groups).parts
        chosen = [np.flatnonzero(dealt == which)[:carriers] for which in (CHOOSE, FIT, SCORE)]
        for places in chosen if near else ():
            groups[places[1]] = groups[places[0]]
        for side in (True, False):
            carries = np.isin(document, np.concatenate(chosen))[:, None] == side
            asked = Grouped((Label("one", ""),), np.arange(3000), carries, document, np.arange(3000), groups, dealt)
            assert asked.tellable == ([0] if told else []), (near, carriers, side)


@dataclass(frozen=True, eq=False)
class Grouped(Questions):
    """Questions of documents that are dealt out in another way."""

    parts: np.ndarray  # type: ignore[assignment]


@pytest.mark.parametrize("kind", ["normal", "sparse", "separable", "rare", "constant"])
def test_the_fit_is_sklearns(kind: str) -> None:
    """Log odds to 1e-5 of their range where scikit-learn is asked to go on to the end; also where a few large codes or one class decide it."""
    random = np.random.default_rng(0)
    for count in (1, 2, 5):
        label = random.random(2000) < (0.01 if kind == "rare" else 0.2)
        features = random.standard_normal((2000, count)) + label[:, None]
        if kind == "sparse":
            features = 100 * random.exponential(size=(2000, count)) ** 3 * (random.random((2000, count)) < 0.002 + 0.02 * label[:, None])
        elif kind == "separable":
            features[:, 0] = np.where(label, 50.0, -1.0)
        elif kind == "constant":
            features[:, 0] = 3.0
        probe = make_pipeline(StandardScaler(), LogisticRegression(class_weight="balanced", max_iter=10_000, tol=1e-10, solver="newton-cholesky"))
        wanted = probe.fit(features[:1500], label[:1500]).decision_function(features[1500:])
        assert decisions(features[:1500], label[:1500], features[1500:]) == pytest.approx(wanted, abs=1e-5 * max(1, np.ptp(wanted)))


def test_the_best_of_many_random_directions() -> None:
    """As long as all are projected and searched one by one, whatever the chunks; the first hundred are among the first thousand."""
    apart = np.random.default_rng(1).standard_normal((3, D))
    found = directions(apart, 3000)
    assert found.shape == (3, D) and np.linalg.norm(found, axis=1) == pytest.approx(1)
    rows = np.random.default_rng(0).standard_normal((3000, D))
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    assert found == pytest.approx(rows[np.abs(rows @ apart.T).argmax(0)])
    assert (np.abs((directions(apart, 100) * apart).sum(1)) <= np.abs((found * apart).sum(1))).all()


def test_choice_and_fit_see_no_document_that_is_scored() -> None:
    """A latent that tells a label in scored documents alone is never chosen, and what it does there moves no fit."""
    batch, labels = labelled()
    scored = ((dealt := parts(batch.text.texts)) == SCORE)[batch.text.document.numpy()]
    assert 0.2 < scored.mean() < 0.5 and np.bincount(dealt).tolist() == [4, 4, 4]
    string = LABELS.index("string")
    _, details = told(planted(batch, {5: 3.0 * (labels[:, string] & scored), 6: 0.4 * labels[:, string]}))
    assert 5 not in details["string"]["latents"] and details["string"]["latents"][0] == details["string"]["firing_latent"] == 6


def test_near_duplicates_are_dealt_into_one_part() -> None:
    """Two texts that nearly repeat each other are never on both sides of a probe; the others are dealt in thirds."""
    draw = np.random.default_rng(0)
    texts = [" ".join(map(str, draw.integers(0, 10_000, 300))) for _ in range(30)]
    texts += [text + " one more line" for text in texts[:15]]
    dealt = parts(texts)
    assert (dealt[:15] == dealt[30:]).all() and np.bincount(dealt[:30]).tolist() == [10, 10, 10]


def test_weighted_scores_are_sklearns_with_sample_weights() -> None:
    """For one draw of documents, and for several together."""
    random = np.random.default_rng(0)
    label, document = random.random(300) < 0.3, random.integers(0, 8, 300)
    scores = (random.integers(0, 5, 300) + label).astype(float)  # many ties
    ranked, tally, yes = RankedScores(scores, label, document, 8), Tally(scores > 2, label, document, 8), scores > 2
    draws = np.stack((np.ones(8), random.integers(0, 4, 8), random.integers(0, 2, 8))).astype(float)
    for weights in draws:
        row, one = weights[document], weights[None]
        assert ranked.auc(one) == pytest.approx([roc_auc_score(label, scores, sample_weight=row)])
        assert tally.balanced(one) == pytest.approx([balanced_accuracy_score(label, yes, sample_weight=row)]) and tally.both(one).all()
        assert tally.always(one) == pytest.approx([f1_score(label, np.ones(300), sample_weight=row)])
        for ours, theirs in ((tally.f1, f1_score), (tally.precision, precision_score), (tally.recall, recall_score)):
            assert ours(one) == pytest.approx([theirs(label, yes, sample_weight=row)])
    for way in (ranked.auc, tally.balanced, tally.f1):
        assert way(draws) == pytest.approx(np.concatenate([way(weights[None]) for weights in draws]))
    assert mean_of_known(np.array([[1, np.nan, np.nan], [3, 5, np.nan]])) == pytest.approx([2, 5, np.nan], nan_ok=True)
    nothing = np.zeros((1, 8))
    assert np.isnan(ranked.auc(nothing)) and np.isnan(tally.f1(nothing)) and not tally.both(nothing)


def test_draws_together_are_draws_one_by_one_and_a_labels_interval_is_theirs() -> None:
    """Of the labels that have rows on both sides under a draw; the interval leaves out the first draw, in which every document counts once."""
    batch, labels = labelled()
    metric = measured("sparse_probing", [planted(batch, {5: 1.0 * (labels[:, LABELS.index("argument")] & (np.arange(len(labels)) % 2 == 0))})], 12)
    assert "interval" not in metric.details()["labels"]["argument"]
    draws = torch.cat((torch.ones(1, 12), torch.randint(1, 4, (8, 12), generator=torch.Generator().manual_seed(0)).float()))
    together = metric.results(draws)
    details = metric.details()["labels"]["argument"]
    alone = [metric.result(draw) for draw in draws]
    assert together == [pytest.approx(one) for one in alone] and details["auc_1"] == metric.details()["labels"]["argument"]["auc_1"]
    label, part_of = labels[:, LABELS.index("argument")], parts(batch.text.texts)[batch.text.document.numpy()]
    score = np.flatnonzero((part_of == SCORE) & ~batch.text.massive.numpy())
    codes = dense(planted(batch, {5: 1.0 * (label & (np.arange(len(label)) % 2 == 0))}))[score, 5]
    wanted = [roc_auc_score(label[score], codes, sample_weight=draw[batch.text.document].numpy()[score]) for draw in draws[1:]]
    assert details["latents"][0] == 5 and details["interval"] == pytest.approx(resampling.interval(wanted))


def bad_texts() -> Iterator[tuple[str, Batch]]:
    """Text that gives nothing to probe, and words of the reason."""
    batch, _ = labelled()
    yield "Python", replace(batch, text=replace(batch.text, texts=["No Python here."] * 12))
    yield "place", replace(batch, text=replace(batch.text, span=torch.zeros_like(batch.text.span)))
    yield "no label", part(batch, torch.arange(60))
    yield "more than the token", replace(batch, text=replace(batch.text, labels=Plainly()))


class Plainly:
    """Labels of which the token tells all."""

    labels = (Label("even", "an even token", context=False),)
    whole = False

    def of(self, document: int, text: str, span: np.ndarray) -> np.ndarray:
        """By the place of the token alone."""
        return span[:, :1] % 2 == 0


def test_text_without_labels_says_so() -> None:
    """In every column, whatever the reason."""
    for words, batch in bad_texts():
        metric = measured("sparse_probing", [batch], 12)
        assert all(isinstance(value, Missing) and words in value.reason for value in metric.result(None).values()), words
        assert list(metric.details().get("labels", {})) == (["even"] if words == "more than the token" else [])


def test_weights_count_scored_rows_and_leave_the_fits_alone() -> None:
    """Weights of documents that choose or fit move nothing."""
    batch, labels = labelled()
    half = labels[:, LABELS.index("argument")] & (batch.text.document.numpy() % 2 == 0)
    metric = measured("sparse_probing", [planted(batch, {5: 1.0 * half})], 12)
    before = metric.details()
    unscored = torch.from_numpy((parts(batch.text.texts) != SCORE).astype(float))
    assert metric.result(1 + 3 * unscored) == pytest.approx(metric.result(None)) and metric.details() == before
    even = torch.from_numpy((np.arange(12) % 2 == 0).astype(float))
    assert metric.result(even)["auc_1"] > metric.result(None)["auc_1"]


# labels of whole documents


@dataclass(frozen=True)
class Topics:
    """Documents about one of two things, told by their first letter; nothing is known of those that begin with an x."""

    labels: tuple[Label, ...] = (Label("animals", "about animals"), Label("rare", "hardly ever"))
    whole: bool = True

    def of(self, document: int, text: str, span: np.ndarray) -> np.ndarray | None:
        """The same for every token."""
        return None if text[0] == "x" else np.tile([text[0] == "a", document == 0], (len(span), 1))


def documents(count: int = 240, rows: int = 8, labels: Labels | None = None) -> Batch:
    """Documents of random words with a first letter of their own; latent 5 fires in a third of the rows of those about animals."""
    draw, batch = np.random.default_rng(0), made_up(rows=rows, documents=count)
    texts = ["abx"[(0, 1, 0, 1, 1, 0, 2)[index % 7]] + " ".join(map(str, draw.integers(0, 10_000, 60))) for index in range(count)]
    animals = np.array([text[0] == "a" for text in texts])[batch.text.document.numpy()]
    fires = animals & (batch.text.position.numpy() % 3 == 0)
    return planted(replace(batch, text=replace(batch.text, texts=texts, labels=labels or Topics())), {5: fires * draw.uniform(0.5, 1, len(fires))})


def test_labels_of_documents_are_asked_of_means_over_their_rows() -> None:
    """Against means by plain loops, and scikit-learn; massive rows are in none."""
    batch = documents()
    metric = measured("sparse_probing", [batch], 240)
    found, details = metric.result(None), metric.details()
    assert list(details["labels"]) == ["animals"] and details["too_few_rows"] == ["rare"]
    document, plain, codes = batch.text.document.numpy(), ~batch.text.massive.numpy(), dense(batch)
    rows_of = [plain & (document == index) for index in range(240)]
    means, x = (np.stack([values[here].sum(0) / max(here.sum(), 1) for here in rows_of]) for values in (codes, batch.text.x.double().numpy()))
    label, known = (np.array([text[0] in letters for text in batch.text.texts]) for letters in ("a", "ab"))
    known &= np.array([here.any() for here in rows_of])
    assert 0 < (~known).sum() < 60
    choose, fit, score = (np.flatnonzero(known & (parts(batch.text.texts) == which)) for which in (CHOOSE, FIT, SCORE))
    apart = np.abs(means[choose[label[choose]]].mean(0) - means[choose[~label[choose]]].mean(0))
    assert details["labels"]["animals"]["latents"] == list(np.argsort(-apart)[:5]) and apart.argmax() == 5
    pipe = make_pipeline(StandardScaler(), LogisticRegression(class_weight="balanced", max_iter=1000, tol=1e-8))
    for way, features in (("auc_1", means[:, [5]]), ("auc_5", means[:, np.argsort(-apart)[:5]]), ("baseline_full", x)):
        rows = np.append(choose, fit) if way == "baseline_full" else fit
        odds = pipe.fit(features[rows], label[rows]).decision_function(features[score])
        assert found[way] == pytest.approx(roc_auc_score(label[score], odds), abs=2e-3), way
    words = np.stack([np.bincount(batch.text.token.numpy()[here], minlength=50) for here in rows_of])
    odds = make_pipeline(Normalizer(), LogisticRegression(class_weight="balanced", max_iter=1000)).fit(words[rows], label[rows]).decision_function(words[score])
    assert found["floor_token"] == pytest.approx(roc_auc_score(label[score], odds), abs=2e-3)
    assert found["f1"] > 0.9 and (details["labels"]["animals"]["rows_on"], details["labels"]["animals"]["rows_off"]) == (
        int((label & known).sum()),
        int((~label & known).sum()),
    )


def test_the_cut_into_batches_does_not_matter_to_documents_and_saes_share_what_is_not_theirs() -> None:
    """Also where a document is cut in two."""
    batch = documents()
    order = torch.randperm(len(batch.x_hat), generator=torch.Generator().manual_seed(0))
    pieces = [part(batch, rows) for rows in order.split(500)]
    pieces = [replace(piece, text=replace(piece.text, labels=batch.text.labels)) for piece in pieces]
    one, many, other = (measured("sparse_probing", seen, 240) for seen in ([batch], pieces, pieces))
    assert many.result(None) == pytest.approx(one.result(None), abs=1e-6) and many.details() == one.details()
    assert many.pooled.pool is other.pooled.pool  # type: ignore[attr-defined]
    assert many.probed().plain is other.fit().plain  # type: ignore[attr-defined]


def test_documents_without_labels_say_so() -> None:
    """None known, too few of them, none shown."""
    batch = documents()
    none = replace(batch, text=replace(batch.text, texts=["x"] * 240))
    for seen, words in ((none, "no held-out document"), (documents(count=100), f"{LEAST} ")):
        found = measured("sparse_probing", [seen], len(seen.text.texts)).result(None)
        assert all(isinstance(value, Missing) and words in value.reason for value in found.values()), found
    empty = plugins.metric("sparse_probing")(Setting(D, LATENTS, LATENTS, 9, 5))
    assert all(isinstance(value, Missing) for value in empty.result(None).values())
