"""A labelled text as metrics are shown it: no token without its place, nothing of a document that is not measured, and no third of it in another."""

import json
import re
from pathlib import Path

import numpy as np
import pytest

from sae_bench_htopk.document_classes import Classes
from sae_bench_htopk.questions import parts
from sae_bench_htopk.showing import Shown, shown
from sae_bench_htopk.text import Files, TextError

HEAD, TAIL, FAMILIES, EACH = 12, 60, 2, 30


def words(text: str) -> tuple[np.ndarray, np.ndarray]:
    """A tokenizer of words, with the space before each."""
    spans = np.array([found.span() for found in re.finditer(r"\s*\S+", text)], dtype=np.int64).reshape(-1, 2)
    return np.arange(len(spans)), spans


def families(folder: Path) -> Classes:
    """Documents that open with one of a few licences and go on each in its own words; their classes mean nothing."""
    rows = []
    for number in range(FAMILIES * EACH):
        family = number % FAMILIES
        head, tail = [f"licence{family}_{place}" for place in range(HEAD)], [f"own{number}_{place}" for place in range(TAIL)]
        rows.append({"text": " ".join(head + tail), "label": "ab"[number // FAMILIES % 2]})
    (folder / "heads.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return Classes(Files((str(folder / "heads.jsonl"),), "json"), "label", documents=FAMILIES * EACH, length=HEAD)


def test_documents_that_open_alike_are_all_in_one_third(tmp_path: Path) -> None:
    """What is shown of them is the same, so a latent chosen and fitted on one would be scored on its twin; their whole texts are no near-duplicates."""
    text = families(tmp_path)
    found, whole = shown(text, "heads", words, 8), text.read().texts
    assert set(found.texts) == {" ".join(f"licence{family}_{place}" for place in range(HEAD)) for family in range(FAMILIES)}
    thirds = parts(found.texts)
    for family in range(FAMILIES):
        assert len(set(thirds[family::FAMILIES])) == 1 and len(set(parts(whole)[family::FAMILIES])) == 3


def of_document(found: Shown, document: int) -> tuple[list[int], list[str]]:
    """The tokens of one document in order, and what they say."""
    here = sorted((window for window in found.windows if window.document == document), key=lambda window: window.start)
    assert all(window.spans is not None for window in here)
    said = [found.texts[document][first:last] for window in here for first, last in window.spans]  # type: ignore[union-attr]
    return [int(token) for window in here for token in window.ids], said


def test_texts_are_what_the_tokens_say_and_keep_their_places(tmp_path: Path) -> None:
    """Also of a document that is shorter, and of one that stands there twice."""
    texts = ["one two  three four five", "six", "one two  three four five", " seven eight nine "]
    path = tmp_path / "some.jsonl"
    path.write_text("".join(json.dumps({"text": text, "label": label}) + "\n" for text in texts for label in "ab"), encoding="utf-8")
    found = shown(Classes(Files((str(path),), "json"), "label", length=3), "some", words, 3)
    assert found.texts == [cut for cut in ("one two  three", "six", "one two  three", " seven eight nine") for _ in "ab"]
    assert found.tokens == 2 * (3 + 1 + 3 + 3) and found.labels is not None
    for document, text in enumerate(found.texts):
        ids, said = of_document(found, document)
        assert ids == list(range(len(text.split()))) and "".join(said) == text


def test_a_tokenizer_without_places_is_refused(tmp_path: Path) -> None:
    """What was measured could not be told."""
    with pytest.raises(TextError, match=r"^labelled\.heads: the tokenizer does not say where in a text its tokens stand"):
        shown(families(tmp_path), "heads", lambda text: (words(text)[0], None), 8)
