"""Sources of text: what they yield, and what they say where they cannot."""

import json
from pathlib import Path
from types import SimpleNamespace

import datasets
import huggingface_hub
import pytest

from sae_bench_htopk import reader, split, text
from sae_bench_htopk.text import Files, Hub, Installed, TextError

COMMIT = "a" * 40


def test_a_missing_distribution_is_named() -> None:
    """With the command that installs it."""
    with pytest.raises(TextError, match=r"pip install nosuchthing==1\.2"):
        list(Installed({"nosuchthing": "1.2"}).documents())


def test_generated_tables_are_no_prose() -> None:
    """Tables of numbers, files marked as generated, and scraps are left out."""
    prose = "def add(first, second):\n    return first + second\n" * 20
    assert text.is_prose(prose)
    for said in ("This file is auto-generated", "Do NOT manually edit", "DO NOT EDIT"):
        assert not text.is_prose(f"# {said}\n" + prose)
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
    rows = [{"text": " ".join(f"{word}{n}" for word in "abcdefgh")} for n in range(300)]
    asked: dict[str, object] = {}

    def load(path: str, name: str | None, **options: object) -> object:
        asked.update(options, path=path, name=name)
        return SimpleNamespace(as_streaming_dataset=lambda split: asked.update(split=split) or datasets.Dataset.from_list(rows).to_iterable_dataset())

    monkeypatch.setattr(datasets, "load_dataset_builder", load)
    source = Hub("some/set", COMMIT, name="sample")
    parts = {part: [d.text for d in split.part_documents(source, part)] for part in ("train", "calibration", "held_out")}  # type: ignore[arg-type]
    assert sorted(t for part in parts.values() for t in part) == sorted(row["text"] for row in rows) and all(parts.values())
    assert asked == {"path": "some/set", "name": "sample", "revision": COMMIT, "split": "train"}
    rows.reverse()
    assert set(text_of.text for text_of in split.part_documents(source, "held_out")) == set(parts["held_out"])


def test_an_unreachable_hub_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    """A network fault names the data set and the revision, after all tries."""
    waits: list[float] = []

    def load(*_: object, **__: object) -> object:
        raise ConnectionError("no route")

    monkeypatch.setattr(datasets, "load_dataset_builder", load)
    monkeypatch.setattr(reader.time, "sleep", waits.append)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    with pytest.raises(TextError, match=r"some/set .* at a{40} cannot be read: no route"):
        list(Hub("some/set", COMMIT).documents())
    assert waits == [1, 2, 4, 8, 16, 32, 60]


def test_a_revision_that_may_move_is_noted() -> None:
    """A branch or a tag is, a commit is not."""
    assert any("main" in note and "may move" in note for note in Hub("some/set", "main").notes())
    assert not any("may move" in note for note in Hub("some/set", "ab45e286aef3fb5780067100cb5a1132b52b7949").notes())
