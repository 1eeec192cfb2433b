"""Latents to look at: their strongest codes against a plain sort, the contexts cut by hand, and who is chosen."""

import json
from itertools import pairwise

import numpy as np
import pytest
import torch
from sklearn.metrics import f1_score
from torch import Tensor

from sae_bench_htopk import definitions, plugins
from sae_bench_htopk.contract import Batch, Setting, Text
from sae_bench_htopk.metrics import latent_contexts
from sae_bench_htopk.python_labels import LABELS
from sae_bench_htopk.questions import questions_of
from sae_bench_htopk.rows import summary
from sae_bench_htopk.top_contexts import AFTER, BEFORE, KEPT, TopCodes, peaks, shown
from sae_bench_htopk.transcript import Transcript, follow
from tests.made_up_text import LATENTS, Rest, made_up, measured, ragged
from tests.test_sparse_probing import labelled, planted

REST = Rest(torch.zeros(1, 2), torch.zeros(1, dtype=torch.bool), torch.zeros(1))  # of the language model; nobody here asks it


def rows(count: int, seed: int = 0) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """(dense codes of few different values, so that many are equal; document, position, massive), in a shuffled order."""
    random = torch.Generator().manual_seed(seed)
    codes = torch.randint(1, 7, (count, 12), generator=random) * (torch.rand(count, 12, generator=random) < 0.3) / 4
    codes[:, 3] *= torch.arange(count) < 5  # one that seldom fires, and one that never does
    codes[:, 4] = 0
    order = torch.randperm(count, generator=random)
    return codes[order], (torch.arange(count) % 6)[order], (torch.arange(count) // 6)[order], (torch.arange(count) % 11 == 4)[order]


def plainly(codes: Tensor, document: Tensor, position: Tensor, massive: Tensor, latent: int, kept: int, most: int) -> list[tuple[float, int, int]]:
    """The strongest codes of a latent, one after the other."""
    every = zip(codes[:, latent].tolist(), document.tolist(), position.tolist(), massive.tolist(), strict=True)
    found: list[tuple[float, int, int]] = []
    for value, of, at in sorted(((value, of, at) for value, of, at, left_out in every if value > 0 and not left_out), key=lambda code: (-code[0], *code[1:])):
        if sum(other == of for _, other, _ in found) < most and len(found) < kept:
            found.append((value, of, at))
    return found


@pytest.mark.parametrize(("kept", "most"), [(5, 2), (8, 8), (30, 3), (1, 1)])
@pytest.mark.parametrize("cuts", [[], [7, 8, 100, 250], list(range(1, 400, 13))])
def test_the_strongest_codes_are_those_of_a_plain_sort_for_any_cut(kept: int, most: int, cuts: list[int]) -> None:
    """Equal ones by document and position; massive rows are left out; firings are counted."""
    codes, document, position, massive = rows(400)
    top = TopCodes(12, kept, most)
    for start, end in pairwise([0, *cuts, 400]):
        top.add(ragged(codes[start:end]), document[start:end], position[start:end], massive[start:end])
    for latent in range(12):
        assert list(zip(*(part.tolist() for part in top.of(latent)), strict=True)) == plainly(codes, document, position, massive, latent, kept, most)
    assert top.fired.tolist() == (codes[~massive] > 0).sum(0).tolist() and top.rows == int((~massive).sum())


def test_what_is_kept_does_not_grow_with_the_text() -> None:
    """Ten times the rows: no more codes than so many of each latent, whatever the number of documents."""
    for count in (2_000, 20_000):
        codes, _, position, massive = rows(count)
        top = TopCodes(12, 10, 2)
        for start in range(0, count, 500):
            part = slice(start, start + 500)
            top.add(ragged(codes[part]), position[part] // 20, position[part], massive[part])
        found = np.bincount(top.latent, minlength=12)
        assert found[4] == 0 and found[3] <= 5 and set(np.delete(found, [3, 4])) == {10}
        assert len(top.latent) == len(top.value) == len(top.place) and len(top.floor) == len(top.fired) == 12


def test_a_second_peak_of_a_document_is_shown_where_documents_are_too_few_and_apart() -> None:
    """The largest of each document first; a neighbour of it never."""
    document, position = np.array([2, 2, 0, 2, 2, 1]), np.array([40, 41, 5, 90, 95, 7])
    assert peaks(document, position, 2) == [0, 2] and peaks(document, position, 3) == [0, 2, 5]
    assert peaks(document, position, 4) == [0, 2, 3, 5] == peaks(document, position, 9)


def test_contexts_by_hand() -> None:
    """Tokens are runs of three characters: 12 before and 4 after, cut at the ends of the document; strong neighbours are marked."""
    letters = "".join(chr(ord("a") + index % 26) for index in range(120))
    token = {index: letters[3 * index : 3 * index + 3] for index in range(40)}
    count, dense = 40, torch.zeros(80, 4)
    dense[20, 1], dense[18, 1], dense[19, 1], dense[2, 1] = 3.0, 1.5, 0.123456, 9.0  # rows 0 to 39 are document 0
    dense[count + 38, 2] = 1.0
    document, position = torch.arange(80) // count, torch.arange(80) % count
    span = torch.stack((3 * position, 3 * position + 3), dim=1)
    text = Text(torch.zeros(80, 2), document, position, position, span, torch.zeros(80, dtype=torch.bool), [letters, letters.upper()], REST)
    top, transcript = TopCodes(4), follow(Transcript.empty(), text)
    top.add(ragged(dense), document, position, text.massive)
    first, second = shown(top, 1, transcript, text.texts, 8)
    assert first == {"document": 0, "text": [token[0] + token[1], token[2], token[3] + token[4] + token[5] + token[6]], "activations": [9.0], "peak": 0}
    whole = "".join(token[index] for index in range(20 - BEFORE, 18)), "".join(token[index] for index in range(21, 21 + AFTER))
    assert second == {"document": 0, "text": [whole[0], token[18], "", token[19], "", token[20], whole[1]], "activations": [1.5, 0.1235, 3.0], "peak": 2}
    (end,) = shown(top, 2, transcript, text.texts, 8)
    assert end["text"] == [letters[3 * 26 : 3 * 38].upper(), token[38].upper(), token[39].upper()]
    assert shown(top, 0, transcript, text.texts, 8) == []


def test_tokens_that_share_a_character_mark_it_once() -> None:
    """As those of a byte-level tokenizer do; the strongest keeps it."""
    span = torch.tensor([[0, 1], [1, 2], [1, 2], [2, 3]])
    text = Text(torch.zeros(4, 2), torch.zeros(4).long(), torch.arange(4), torch.arange(4), span, torch.zeros(4, dtype=torch.bool), ["a→b"], REST)
    top = TopCodes(1)
    top.add(ragged(torch.tensor([[0.0], [1.0], [2.0], [0.5]])), text.document, text.position, text.massive)
    (found,) = shown(top, 0, follow(Transcript.empty(), text), text.texts, 8)
    assert found == {"document": 0, "text": ["a", "→", "", "b", ""], "activations": [2.0, 0.5], "peak": 0}


def test_draws_are_fixed_and_by_firing_they_follow_firing() -> None:
    """Uniform draws come among those that fire; a latent with a third of all firings is drawn first a third of the time."""
    fired = np.random.default_rng(0).integers(1, 50, 500)
    fired[::3] = 0
    for draw in (latent_contexts.uniformly, latent_contexts.by_firing):
        found = draw(fired)
        assert found == draw(fired.copy()) and len(set(found)) == 6 and all(fired[latent] for latent in found)
    assert latent_contexts.by_firing(np.array([0, 3, 0])) == [1] == latent_contexts.uniformly(np.array([0, 3, 0]))
    one_third = [np.insert(np.ones(500, dtype=np.int64), place, 250) for place in range(500)]
    first = [latent_contexts.by_firing(fired)[0] == place for place, fired in enumerate(one_third)]
    assert np.mean(first) == pytest.approx(1 / 3, abs=0.07)


def test_the_latent_that_serves_a_label_is_shown_with_its_f1() -> None:
    """Planted latents are found; F1 is sklearn's, and chance is what shuffled firing gets."""
    batch, labels = labelled()
    place = {name: LABELS.index(name) for name in ("docstring", "argument")}
    metric = measured("latent_contexts", [planted(batch, {place[name]: 5.0 * labels[:, place[name]] for name in place})], 12)
    latents = {one["latent"]: one for one in metric.details()["shown_latents"]}
    assert f"best for {'argument'}" in latents[place["argument"]]["chosen"]
    name, f1, chance = latents[place["argument"]]["labels"][0]
    assert (name, f1) == ("argument", 1.0) and all(one["activations"] == [5.0] * len(one["activations"]) for one in latents[place["argument"]]["contexts"])
    questions = questions_of(metric.codes.sample, metric.texts, metric.labels)
    codes, service = metric.codes.matrix(LATENTS)[questions.rows], metric.service()
    number, random = questions.number("argument"), np.random.default_rng(0)
    here = questions.asked(number)
    fires = (codes[:, 30].toarray()[:, 0] > 0)[here]
    row = [label.name for label in service.labels].index("argument")
    assert service.f1[row, 30] == pytest.approx(f1_score(questions.carries[here, number], fires))
    shuffled = np.mean([f1_score(questions.carries[here, number], random.permutation(fires)) for _ in range(40)])
    assert service.chance[row, 30] == pytest.approx(shuffled, abs=0.02) and 0 < chance < 1


def test_a_row_keeps_the_details_of_a_metric_without_columns() -> None:
    """No value, no interval, and JSON of a bounded size; the table of definitions has its line alone."""
    metric = measured("latent_contexts", [made_up()])
    row = summary({"latent_contexts": metric}, {"latent_contexts": type(metric)}, 9)
    assert row["values"] == row["missing"] == row["intervals"] == {} and len(row["details"]["latent_contexts"]["shown_latents"]) >= 6
    assert len(json.dumps(row["details"], indent=1)) < 60_000
    assert definitions.section("latent_contexts").count("\n") == 2


def test_why_there_is_nothing_to_look_at() -> None:
    """No text, codes that never fire, tokens without a place; text without labels has latents without labels."""
    kind = plugins.metric("latent_contexts")
    assert "no latent fired" in kind(Setting(2, LATENTS, LATENTS, 1)).details()["none_shown"]
    batch, _ = labelled()
    text = batch.text
    silent = measured("latent_contexts", [Batch(text, batch.x_hat, ragged(torch.zeros(len(text.x), LATENTS)))], 12)
    assert "no latent fired" in silent.details()["none_shown"]
    nowhere = measured("latent_contexts", [Batch(Text(**{**vars(text), "span": torch.zeros_like(text.span)}), batch.x_hat, batch.codes)], 12)
    assert "places of tokens" in nowhere.details()["none_shown"]
    prose = measured("latent_contexts", [Batch(Text(**{**vars(text), "texts": ["No Python here. " * 99] * 12}), batch.x_hat, batch.codes)], 12).details()
    assert "Python" in prose["no_labels"] and prose["shown_latents"] and not any(one["labels"] for one in prose["shown_latents"])
    assert prose["kept"] == KEPT
