"""Labelled text, from tiny local files through `datasets`, as the hub's would come: which documents, which labels, and what is said where it cannot be."""

import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import datasets
import huggingface_hub
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from sae_bench_htopk import labelled_text, reader
from sae_bench_htopk.document_classes import Classes, Part
from sae_bench_htopk.labelled_source import LabelledDocuments
from sae_bench_htopk.labels import Labels
from sae_bench_htopk.tagged_words import Tagged
from sae_bench_htopk.text import Files, Hub, TextError

COMMIT = "c" * 40
TOPICS = ["World", "Sports", "Business"]
NEWS = [(f"news {number} of {TOPICS[number % 3]}", number % 3) for number in range(30)]


def jsonl(path: Path, rows: list[dict[str, Any]]) -> Files:
    """The rows as a local jsonl file."""
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return Files((str(path),), "json")


def parquet(path: Path, rows: list[dict[str, Any]], **features: object) -> Files:
    """The rows as a local parquet file whose features are told, which says of numbers what classes they are."""
    datasets.Dataset.from_list(rows, features=datasets.Features(features)).to_parquet(path)  # type: ignore[arg-type]
    return Files((str(path),), "parquet")


def news(folder: Path) -> Files:
    """Thirty texts of three classes, whose names the file gives, as AG News has them."""
    rows = [{"text": text, "label": label} for text, label in NEWS]
    return parquet(folder / "news.parquet", rows, text=datasets.Value("string"), label=datasets.ClassLabel(names=TOPICS))


def asked(found: LabelledDocuments, document: int, *spans: tuple[int, int]) -> list[list[str]]:
    """The names of the labels that tokens at these characters of a document carry."""
    carries = found.labels.of(document, found.texts[document], np.array(spans, dtype=np.int64))
    assert carries is not None
    return [[label.name for label, here in zip(found.labels.labels, row, strict=True) if here] for row in carries]


def test_classes_are_equally_many_and_named_by_the_data_set(tmp_path: Path) -> None:
    """At most documents / classes of each, the first that there are; every token of a document carries its class alone."""
    found = Classes(news(tmp_path), "label", documents=14).read()
    assert found.texts == tuple(text for text, _ in NEWS[:12])
    assert isinstance(found.labels, Labels) and found.labels.whole
    assert [label.name for label in found.labels.labels] == TOPICS
    for document, (_, label) in enumerate(NEWS[:12]):
        assert asked(found, document, (0, 4), (4, 6)) == [[TOPICS[label]]] * 2
    assert len({found.labels, Classes(news(tmp_path), "label").read().labels}) == 2, "labels are told apart by identity"


def test_a_class_that_comes_late_still_gets_its_share(tmp_path: Path) -> None:
    """The rows of a file may be sorted by class."""
    rows = [{"text": f"{name} {number}", "label": name} for name in ("b", "a") for number in range(20)]
    found = Classes(jsonl(tmp_path / "sorted.jsonl", rows), "label", documents=8).read()
    assert [label.name for label in found.labels.labels] == ["a", "b"]
    assert found.texts == tuple(f"{name} {number}" for name in ("b", "a") for number in range(4))


def test_names_choose_and_rename_values(tmp_path: Path) -> None:
    """Values without a name are left out, two may share one; numbers are meant by their digits."""
    source = jsonl(tmp_path / "bios.jsonl", [{"text": f"bio {number}", "profession": number % 4} for number in range(40)])
    found = Classes(source, "profession", names={"0": "care", "3": "care", "1": "law"}, documents=12).read()
    assert [label.name for label in found.labels.labels] == ["care", "law"]
    assert [asked(found, document, (0, 3))[0][0] for document in range(12)] == [{0: "care", 3: "care", 1: "law"}[int(t.split()[1]) % 4] for t in found.texts]
    assert sum(asked(found, document, (0, 3)) == [["law"]] for document in range(12)) == 6


@pytest.mark.parametrize(("rare", "documents", "kept"), [(5, 100, 5), (9, 100, 9), (60, 100, 50), (3, 60, 3)])
def test_no_class_has_more_than_the_rarest(tmp_path: Path, rare: int, documents: int, kept: int) -> None:
    """The first of each, wherever those of the rare class stand."""
    rows = [{"text": f"a {number}", "label": "a"} for number in range(200)] + [{"text": f"b {number}", "label": "b"} for number in range(rare)]
    found = Classes(jsonl(tmp_path / "rare.jsonl", rows), "label", documents=documents).read()
    assert found.texts == tuple(f"{name} {number}" for name in "ab" for number in range(kept))
    assert [asked(found, document, (0, 1)) for document in range(2 * kept)] == [[["a"]]] * kept + [[["b"]]] * kept


def test_a_class_that_is_too_rare_is_refused(tmp_path: Path) -> None:
    """Else the others would be cut to next to nothing."""
    rows = [{"text": f"{name} {number}", "label": name} for name, count in (("a", 196), ("b", 4)) for number in range(count)]
    source = jsonl(tmp_path / "rare.jsonl", rows)
    for documents, said in ((100, "class b has 4 that are not empty, wanted at least 5, a tenth of the 50 of a"), (82, "wanted at least 5, a tenth of the 41")):
        with pytest.raises(TextError, match=rf"^labelled\.mine\.documents: .*{said}"):
            labelled_text.read(Classes(source, "label", documents=documents), "mine")
    assert len(Classes(source, "label", documents=80).read().texts) == 8


def test_a_class_may_be_told_by_the_end_of_a_path(tmp_path: Path) -> None:
    """The longest end that fits, and none of another; what stands before `skip` is left out, and with it what is too short."""
    paths = ["a/one.c", "two.cc", "three.py", "README", "four.h"]
    rows = [{"content": f"{'#' * 10}{path} {number}", "path": path} for number in range(4) for path in paths] + [{"content": "#" * 10, "path": "x.py"}]
    source = Files(jsonl(tmp_path / "code.jsonl", rows).paths, "json", "content")
    found = Classes(source, "path", names={".c": "C", ".h": "C", ".py": "Python", ".cc": "C++"}, match="ending", skip=10, documents=12).read()
    told = {text.split()[0]: asked(found, document, (0, 1))[0] for document, text in enumerate(found.texts)}
    assert told == {"a/one.c": ["C"], "four.h": ["C"], "three.py": ["Python"], "two.cc": ["C++"]}


def test_parts_have_a_class_each(tmp_path: Path) -> None:
    """As Europarl has: one configuration, or file, for a pair of languages, and the text inside a translation."""
    pairs = {}
    for pair in ("en-fr", "de-en"):
        one, other = pair.split("-")
        rows = [{"translation": {one: f"{one} {number}", other: f"{other} {number}"}} for number in range(9)]
        pairs[pair] = jsonl(tmp_path / f"{pair}.jsonl", rows).paths
    parts = (Part("English", column="translation.en"), Part("German", column="translation.de", paths=pairs["de-en"]))
    whole = Classes(Files(pairs["en-fr"], "json"), parts=parts, documents=8)
    found = whole.read()
    assert found.texts == ("en 0", "de 0", "en 1", "de 1", "en 2", "de 2", "en 3", "de 3")
    assert [asked(found, document, (0, 2)) for document in (0, 1)] == [[["English"]], [["German"]]]
    wrong = Classes(Files(pairs["en-fr"], "json"), parts=(Part("English", column="translation.en"), Part("German", column="translation.de")))
    with pytest.raises(TextError, match=r"^labelled\.languages\.column: en-fr\.jsonl has no column 'translation\.de'; it has en, fr$"):
        labelled_text.read(wrong, "languages")


def test_the_parts_of_one_class_share_its_documents(tmp_path: Path) -> None:
    """A label that stands at several parts is one class, which has as many documents as any other, of each of its parts."""
    paths = {name: jsonl(tmp_path / f"{name}.jsonl", [{"text": f"{name} {number}"} for number in range(9)]).paths for name in ("news", "mail", "code")}
    labels = {"news": "prose", "code": "code", "mail": "prose"}
    whole = Classes(Files(paths["news"], "json"), parts=tuple(Part(labels[name], paths=paths[name]) for name in labels), documents=10)
    found = whole.read()
    assert found.texts == ("news 0", "code 0", "mail 0", "news 1", "code 1", "mail 1", "code 2", "mail 2", "code 3", "code 4")
    assert [asked(found, place, (0, 4)) for place in range(10)] == [[[labels[text.split()[0]]]] for text in found.texts]


def test_what_the_hub_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each part's configuration at the pinned revision, streamed, and no further than it must."""
    calls, seen = [], []

    def load(path: str, name: str | None, **options: object) -> object:
        calls.append((path, name, options))
        language = "en" if name == "en-fr" else "de"

        def rows() -> Any:
            for number in range(10**9):
                seen.append(number)
                yield {"translation": {language: f"{language} {number}"}}

        return SimpleNamespace(as_streaming_dataset=lambda split: datasets.IterableDataset.from_generator(rows))

    monkeypatch.setattr(datasets, "load_dataset_builder", load)
    parts = (Part("en", "en-fr", "translation.en"), Part("de", "de-en", "translation.de"))
    found = Classes(Hub("some/pairs", COMMIT), parts=parts, documents=20).read()
    assert found.texts[:3] == ("en 0", "de 0", "en 1") and len(found.texts) == 20 and len(seen) < 100
    assert calls == [("some/pairs", name, {"revision": COMMIT}) for name in ("en-fr", "de-en")]


def test_empty_text_is_no_document(tmp_path: Path) -> None:
    """Nor one of white space, nor one whose class is not known."""
    rows = [{"text": text, "label": label} for text, label in (("", "a"), (" \n", "b"), ("lost", None))]
    rows += [{"text": f"{name} {number}", "label": name} for number in range(3) for name in "ab"]
    found = Classes(jsonl(tmp_path / "few.jsonl", rows), "label").read()
    assert sorted(found.texts) == ["a 0", "a 1", "a 2", "b 0", "b 1", "b 2"]


def test_what_cannot_be_read_is_one_sentence(tmp_path: Path) -> None:
    """It names the key of the suite, what there is, and what is wanted."""
    rows: list[dict[str, Any]] = [{"text": f"{name} {n}", "label": name, "score": 0.5} for name, count in (("a", 9), ("b", 2)) for n in range(count)]
    source = jsonl(tmp_path / "rows.jsonl", rows)
    for config, said in (
        (Classes(source, "lable"), "label: rows.jsonl has no column 'lable'; it has text, label, score"),
        (Classes(source, "score"), "label: rows.jsonl, column 'score' holds float, wanted a whole number or text"),
        (Classes(source, "text.label"), "label: rows.jsonl has no column 'text.label'; what it is to be part of is str"),
        (Classes(Files(source.paths, "json", "score"), "label"), "column: rows.jsonl, column 'score' holds float, wanted text"),
        (Classes(source, "label"), "documents: class b has 2 that are not empty, wanted at least 3 of each class"),
        (Classes(source, "label", documents=5), "documents: 5, wanted at least 6, 3 of each of a, b"),
        (Classes(source, "label", names={"a": "A", "c": "C"}), "documents: class C has 0 that are not empty"),
        (Classes(source, "label", names={"a": "A"}), "label: 1 classes are known (A), wanted at least 2"),
        (Classes(Files((str(tmp_path / "absent"),), "json"), "label"), f"paths: {tmp_path / 'absent'} is not a file"),
        (Tagged(source, "label"), "column: rows.jsonl, column 'text' holds str, wanted a list of words or tags"),
    ):
        with pytest.raises(TextError) as caught:
            labelled_text.read(config, "mine")
        assert str(caught.value).startswith(f"labelled.mine.{said}"), caught.value


def test_a_stream_must_say_what_its_classes_are(monkeypatch: pytest.MonkeyPatch) -> None:
    """It has no end at which they would be known; an unreachable one is one sentence, after all tries."""
    rows = datasets.Dataset.from_list([{"text": "a", "label": 1}]).to_iterable_dataset()
    monkeypatch.setattr(datasets, "load_dataset_builder", lambda *_, **__: SimpleNamespace(as_streaming_dataset=lambda split: rows))
    with pytest.raises(TextError, match=r"labelled\.mine\.names: the data set does not say which classes label holds, wanted a mapping"):
        labelled_text.read(Classes(Hub("some/set", COMMIT), "label"), "mine")

    def load(*_: object, **__: object) -> object:
        raise ConnectionError("no route")

    waits: list[float] = []
    monkeypatch.setattr(reader.time, "sleep", waits.append)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(datasets, "load_dataset_builder", load)
    with pytest.raises(TextError, match=r"labelled\.mine\.path: some/set .* at c{40} cannot be read: no route"):
        labelled_text.read(Classes(Hub("some/set", COMMIT), "label"), "mine")
    assert waits == [1, 2, 4, 8, 16, 32, 60]


WORDS = ["Ada", "Lovelace", "went", "", "to", "London", "."]
TAGS = ["B-PER", "I-PER", "O", "O", "O", "B-LOC", "O"]


def entities(folder: Path, tags: list[str] = TAGS) -> Files:
    """One sentence three times and one without a word, with a tag for each word."""
    rows = [{"tokens": WORDS, "ner": tags}] * 3 + [{"tokens": [], "ner": []}]
    return Files(jsonl(folder / "ner.jsonl", rows).paths, "json", "tokens")


def test_a_token_has_the_label_of_the_first_word_that_it_overlaps(tmp_path: Path) -> None:
    """Solved by hand; the commonest tag is no label."""
    found = Tagged(entities(tmp_path), "ner", merge=True).read()
    text = "Ada Lovelace went to London ."
    assert found.texts == (text,) * 3 and isinstance(found.labels, Labels) and not found.labels.whole
    assert [label.name for label in found.labels.labels] == ["LOC", "PER"]
    assert all(label.context and "the token itself may give away" in label.meaning for label in found.labels.labels), "a suite that names them has a headline"
    spans = {
        (0, 3): "PER",
        (3, 7): "PER",
        (2, 14): "PER",
        (10, 17): "PER",
        (12, 17): "",
        (12, 13): "",
        (20, 24): "LOC",
        (27, 28): "",
        (28, 29): "",
        (29, 30): "",
        (5, 5): "",
    }
    assert asked(found, 2, *spans) == [[name] if name else [] for name in spans.values()]
    assert found.labels.of(0, text, np.zeros((0, 2), dtype=np.int64)).shape == (0, 2)  # type: ignore[union-attr]


def test_tags_with_their_prefixes_and_with_names(tmp_path: Path) -> None:
    """Prefixes stay unless they are to be merged; names say which tags are labels."""
    assert [label.name for label in Tagged(entities(tmp_path), "ner").read().labels.labels] == ["B-LOC", "B-PER", "I-PER"]
    named = Tagged(entities(tmp_path), "ner", names={"B-LOC": "place", "O": "other"}).read()
    assert asked(named, 0, (0, 3), (14, 17), (21, 27)) == [[], ["other"], ["place"]]


def test_tags_may_be_numbers_that_the_data_set_names(tmp_path: Path) -> None:
    """As those of CoNLL-2003 are."""
    numbers = {"O": 0, "B-PER": 1, "I-PER": 2, "B-LOC": 3}
    feature = datasets.List(datasets.ClassLabel(names=list(numbers)))
    rows = [{"text": WORDS, "tags": [numbers[tag] for tag in TAGS]}] * 4
    source = parquet(tmp_path / "ner.parquet", rows, text=datasets.List(datasets.Value("string")), tags=feature)
    found = Tagged(source, "tags").read()
    assert asked(found, 0, (0, 3), (4, 12), (13, 17), (21, 27)) == [["B-PER"], ["I-PER"], [], ["B-LOC"]]


@pytest.mark.parametrize("unknown", [-1, -100, -3, 3])
def test_a_number_that_the_data_set_does_not_name_is_no_tag_and_no_class(tmp_path: Path, unknown: int) -> None:
    """Rather than the name that a list has at its end, or an error of Python. `datasets` would not write them, others do."""
    names = datasets.ClassLabel(names=["O", "PER", "LOC"])
    features = datasets.Features(text=datasets.Value("string"), words=datasets.List(datasets.Value("string")), tags=datasets.List(names), label=names)
    words = {"words": ["Ada", "and", "Bo", "x", "y"], "tags": [1, 0, 2, unknown, 0]}
    rows = [words | {"text": str(label), "label": label} for label in (0, 1, 2, unknown)] * 3
    pq.write_table(pa.Table.from_pylist(rows, schema=features.arrow_schema), tmp_path / "rows.parquet")
    source = Files((str(tmp_path / "rows.parquet"),), "parquet")
    tags = Tagged(replace(source, column="words"), "tags").read()
    assert tags.texts[0] == "Ada and Bo x y", "the word is still there"
    assert asked(tags, 0, (0, 3), (3, 7), (7, 10), (10, 12), (12, 14)) == [["PER"], [], ["LOC"], [], []]
    classes = Classes(source, "label").read()
    assert classes.texts == ("0", "1", "2") * 3 and [asked(classes, document, (0, 1))[0] for document in range(3)] == [["O"], ["PER"], ["LOC"]]


@pytest.mark.parametrize("unknown", [-1, -100])
def test_numbers_that_say_that_nothing_is_known(tmp_path: Path, unknown: int) -> None:
    """Are no tag and no class where the data set names none, either; a suite may name them."""
    rows = [{"words": ["a", "b", "c", "d"], "tags": [7, unknown, 5, 7], "text": f"text {label}", "label": label} for label in (7, 5, unknown)] * 3
    source = jsonl(tmp_path / "rows.jsonl", rows)
    tags = Tagged(replace(source, column="words"), "tags").read()
    assert asked(tags, 0, (0, 1), (1, 3), (3, 5), (5, 7)) == [[], [], ["5"], []]
    assert Classes(source, "label").read().texts == ("text 7", "text 5") * 3
    assert Classes(source, "label", names={"7": "yes", str(unknown): "no"}).read().texts == ("text 7", f"text {unknown}") * 3
    with pytest.raises(TextError, match=r"^labelled\.mine\.tags: column 'tags' holds no tag, of which none is left to be a label$"):
        none = jsonl(tmp_path / "none.jsonl", [{"words": ["a"], "tags": [unknown]}] * 3)
        labelled_text.read(Tagged(replace(none, column="words"), "tags"), "mine")


def test_tags_that_cannot_be_labels(tmp_path: Path) -> None:
    """As many as words, and of two kinds or more."""
    for tags, config, said in (
        (TAGS[:-1], {}, r"tags: ner.jsonl:0 has 7 words and 6 tags, wanted one for each word"),
        (["O"] * 7, {}, r"tags: column 'ner' holds O, of which none is left to be a label"),
        (TAGS, {"names": {"MISC": "other"}}, r"tags: column 'ner' holds B-LOC, B-PER, I-PER, O, of which none is left"),
        (TAGS, {"documents": 2}, r"documents: 2 that are not empty, wanted at least 3"),
    ):
        with pytest.raises(TextError, match=rf"^labelled\.mine\.{said}"):
            labelled_text.read(Tagged(entities(tmp_path, tags), "ner", **config), "mine")  # type: ignore[arg-type]


def print_of(config: Classes | Tagged) -> str:
    """Its fingerprint, whatever a suite calls it."""
    return labelled_text.fingerprint(config, "mine")


def test_the_fingerprint_is_that_of_content_and_settings(tmp_path: Path) -> None:
    """Not of the folder that a file lies in."""
    rows = [{"text": f"{name} {number}", "label": name} for number in range(3) for name in "ab"]
    for folder in ("one", "two"):
        (tmp_path / folder).mkdir()
    one, two = (jsonl(tmp_path / folder / "rows.jsonl", rows) for folder in ("one", "two"))
    known = print_of(Classes(one, "label"))
    assert known == print_of(Classes(two, "label"))
    changed = jsonl(tmp_path / "two" / "rows.jsonl", rows[:-1])
    others = [
        Classes(changed, "label"),
        Classes(one, "label", length=64),
        Classes(one, "text"),
        Classes(one, "label", names={"a": "A", "b": "B"}),
        Tagged(one, "label"),
    ]
    assert len({known, *map(print_of, others)}) == 6
    parts = Part("a", "en-fr", "translation.en"), Part("b", "de-en", "translation.de")
    hub = [Classes(Hub("some/set", revision), parts=some) for revision in ("abc", "abd") for some in (parts, (parts[0], Part("b", "de-fr", "translation.de")))]
    assert len(set(map(print_of, hub))) == 4
