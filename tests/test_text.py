"""The split of text: parts never meet, whatever the order, and near-duplicates stay together."""

import json
import random
from pathlib import Path

import datasets
import pytest

from sae_bench_htopk import text
from sae_bench_htopk.corpus import Corpus
from sae_bench_htopk.text import Document, Files, Hub, Installed, TextError


def documents(count: int, words: int = 120) -> list[Document]:
    """Documents of random words; no two share a run of five."""
    draw = random.Random(3)
    return [Document(f"d{index}", " ".join(f"w{draw.randrange(10**6)}" for _ in range(words)), "made") for index in range(count)]


def test_near_duplicates_share_a_group_and_others_do_not() -> None:
    """A copy with one word in 40 changed joins its original; unrelated texts stay alone."""
    plain = documents(20, words=400)
    words = plain[0].text.split()
    changed = Document("copy", " ".join("changed" if index % 40 == 7 else word for index, word in enumerate(words)), "made")
    groups = text.group_near_duplicates([*plain, changed])
    assert groups[0] == groups[-1] and len(set(groups)) == 20


def test_a_large_family_is_one_group() -> None:
    """100 copies, each with its own word changed: more holders of a run of words than are compared in pairs."""
    words = documents(1, words=400)[0].text.split()
    family = [Document(str(n), " ".join([*words[: 3 * n], f"own{n}", *words[3 * n + 1 :]]), "made") for n in range(100)]
    assert len(set(text.group_near_duplicates([*family, *documents(5)][:100]))) == 1


def test_groups_and_parts_do_not_depend_on_order() -> None:
    """Shuffled documents get the same groups and so the same parts."""
    plain = documents(60)
    plain.append(Document("again", plain[5].text + " and a word", "made"))
    before = dict(zip((d.name for d in plain), text.group_near_duplicates(plain), strict=True))
    random.Random(1).shuffle(plain)
    assert dict(zip((d.name for d in plain), text.group_near_duplicates(plain), strict=True)) == before
    assert before["again"] == before["d5"]


def test_shares_of_the_parts() -> None:
    """Over many groups each part gets its share; the rule knows nothing but the group."""
    parts = [text.part_of(f"group {index}") for index in range(20_000)]
    assert abs(parts.count("held_out") / 20_000 - text.HELD_OUT_SHARE) < 0.01
    assert abs(parts.count("calibration") / 20_000 - text.CALIBRATION_SHARE) < 0.01


def test_installed_source_has_disjoint_parts_and_no_tests() -> None:
    """Real distributions: no text in two parts, no test file, all parts present, the same fingerprint twice."""
    source = Installed({"networkx": "3.6.1", "jinja2": "0.0"})
    corpus = Corpus(source)
    texts = {part: {document.text for document in corpus.parts[part]} for part in corpus.parts}
    assert all(texts.values())
    assert not (texts["train"] & texts["held_out"] or texts["train"] & texts["calibration"] or texts["held_out"] & texts["calibration"])
    assert not any("tests" in Path(document.name).parts for part in corpus.parts.values() for document in part)
    assert corpus.fingerprint("train") == Corpus(source).fingerprint("train") != corpus.fingerprint("held_out")
    assert any("jinja2" in note and "0.0" in note for note in source.notes())


def test_a_missing_distribution_is_named() -> None:
    """With the command that installs it."""
    with pytest.raises(TextError, match=r"pip install nosuchthing==1\.2"):
        list(Installed({"nosuchthing": "1.2"}).documents())


def test_generated_tables_are_no_prose() -> None:
    """Tables of numbers, files marked as generated, and scraps are left out."""
    prose = "def add(first, second):\n    return first + second\n" * 20
    assert text.is_prose(prose)
    assert not text.is_prose("# This file is auto-generated\n" + prose)
    assert not text.is_prose("table = [" + "0.125, 12.5, " * 100 + "]")
    assert not text.is_prose("x = 1\n")


@pytest.mark.parametrize("kind", ["text", "json", "parquet"])
def test_local_files(kind: str, tmp_path: Path) -> None:
    """Text, jsonl and parquet give the same documents; a wrong column is named with the ones that there are."""
    texts = ["first text\nof two lines", "second"]
    paths = [tmp_path / f"part{index}.{kind}" for index in range(2)]
    for path, content in zip(paths, texts, strict=True):
        if kind == "text":
            path.write_text(content, encoding="utf-8")
        elif kind == "json":
            path.write_text(json.dumps({"body": content}) + "\n", encoding="utf-8")
        else:
            datasets.Dataset.from_dict({"body": [content]}).to_parquet(path)
    source = Files(tuple(map(str, paths)), kind, column="text" if kind == "text" else "body")  # type: ignore[arg-type]
    assert [document.text for document in source.documents()] == texts
    if kind != "text":
        with pytest.raises(TextError, match="no column 'nothing'; it has body"):
            list(Files(tuple(map(str, paths)), kind, column="nothing").documents())  # type: ignore[arg-type]
    with pytest.raises(TextError, match="is not a file"):
        list(Files((str(tmp_path / "absent"),), "text").documents())


def test_a_hub_data_set_streams_and_is_split_like_all_text(monkeypatch: pytest.MonkeyPatch) -> None:
    """The rows of a stream fall into parts by their own content; the same row always into the same part."""
    rows = [{"text": document.text} for document in documents(300)]
    asked: dict[str, object] = {}

    def load(path: str, name: str | None, **options: object) -> object:
        asked.update(options, path=path, name=name)
        return datasets.Dataset.from_list(rows).to_iterable_dataset()

    monkeypatch.setattr(datasets, "load_dataset", load)
    source = Hub("some/set", "abc123", name="sample")
    parts = {part: [d.text for d in text.part_documents(source, part)] for part in ("train", "calibration", "held_out")}  # type: ignore[arg-type]
    assert sorted(t for part in parts.values() for t in part) == sorted(row["text"] for row in rows) and all(parts.values())
    assert asked["streaming"] is True and asked["revision"] == "abc123" and asked["name"] == "sample"
    rows.reverse()
    assert set(text_of.text for text_of in text.part_documents(source, "held_out")) == set(parts["held_out"])


def test_an_unreachable_hub_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    """A network fault names the data set and the revision."""

    def load(*_: object, **__: object) -> object:
        raise ConnectionError("no route")

    monkeypatch.setattr(datasets, "load_dataset", load)
    with pytest.raises(TextError, match=r"some/set .* at abc cannot be read: no route"):
        list(Hub("some/set", "abc").documents())
