"""A metric on labelled texts, from the suite to the page: tiny local files, and the small random model of tests/test_run.py."""

import json
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from sae_bench_htopk import plugins, records, stream, weights
from sae_bench_htopk.__main__ import main
from sae_bench_htopk.contract import Batch, Reading, Setting, Text
from sae_bench_htopk.document_classes import Classes
from sae_bench_htopk.lm import Hook, SubjectModel
from sae_bench_htopk.measuring_pass import MeasuringPass
from sae_bench_htopk.text import Files
from tests.made_up_text import Rest
from tests.test_run import material, refuse, refuse_training
from tests.test_run import suite as write

__all__ = ["material"]  # the fixture

TOPICS = {
    "classes": "class self return super init object attribute",
    "text": "read line string column words open close",
    "maths": "sum mean square dot norm rows",
}
LENGTH, READING = 20, Reading(8)


def topics(folder: Path, documents: int = 360) -> Path:
    """Documents of words that mostly belong to one of three topics, as jsonl."""
    draw, every = random.Random(0), " ".join(TOPICS.values()).split()
    rows = []
    for number in range(documents):
        topic = list(TOPICS)[number % 3]
        words = [draw.choice(TOPICS[topic].split() if draw.random() < 0.7 else every) for _ in range(draw.randint(8, 40))]
        rows.append({"body": " ".join(words), "topic": topic})
    (folder / "topics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return folder / "topics.jsonl"


def tagged(folder: Path) -> Path:
    """Sentences in which one word alone has a tag, as jsonl."""
    draw, others = random.Random(1), [word for word in " ".join(TOPICS.values()).split() if word != "self"]
    sentences = [["self" if draw.random() < 0.3 else draw.choice(others) for _ in range(12)] for _ in range(150)]
    rows = [{"words": words, "tags": ["B-SELF" if word == "self" else "O" for word in words]} for words in sentences]
    (folder / "tagged.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return folder / "tagged.jsonl"


def small(material: Path, folder: Path) -> Path:
    """A suite of one SAE and one control, with two labelled texts."""
    folder.mkdir(exist_ok=True)
    files = {"source": "files", "format": "json", "length": LENGTH}
    labelled = {
        "topics": {**files, "paths": [str(topics(folder))], "column": "body", "label": "topic", "documents": 300},
        "tags": {**files, "paths": [str(tagged(folder))], "kind": "tags", "column": "words", "tags": "tags", "merge": True},
    }
    metrics = ["explained_variance", {"metric": "sparse_probing", "on": ["held_out", "topics", "tags"], "only": {"k": [8], "select": ["native"]}}]
    return write(
        material, folder, labelled=labelled, metrics=metrics, saes=[{"variant": "topk", "k": 8}], controls=["untrained"], read={"k": [4, 8], "select": ["row"]}
    )


@pytest.fixture(scope="module")
def done(material: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run of it."""
    folder = tmp_path_factory.mktemp("labelled")
    assert main(["run", str(small(material, folder)), "--output", str(folder), "--device", "cpu"]) == 0
    return folder


def row(folder: Path, k: int = 8) -> tuple[records.Record, dict[str, Any]]:
    """The record of the SAE, and its row at k."""
    (record,) = [record for record in records.read_all(folder / "leaderboard" / "small") if record["sae"]["variant"] == "topk"]
    (found,) = [row for row in record["rows"] if row["reading"]["k"] == k]
    return record, found


def test_each_text_has_columns_and_labels_of_its_own(done: Path) -> None:
    """Its numbers stand beside those on held-out text, with intervals over its own documents, and take no part in pairs."""
    record, found = row(done)
    for text, labels in (("topics", set(TOPICS)), ("tags", {"SELF"})):
        name = f"sparse_probing@{text}"
        assert found["values"][f"{name}.auc_1"] > 0.5 and found["values"][f"{name}.auc_1"] != found["values"]["sparse_probing.auc_1"]
        assert set(found["details"][name]["labels"]) <= labels and found["details"][name]["labels"]
        assert f"{name}.auc_1" in found["intervals"] and not any(column.startswith(name) for column in found["draws"])
        assert name in found["keys"] and record["text"]["labelled"][text]
    assert found["values"]["sparse_probing@tags.floor_token"] > 0.99, "the word gives its tag away, which is said beside the headline"
    assert "which the token itself may give away" in found["details"]["sparse_probing@tags"]["labels"]["SELF"]["meaning"]
    assert not set(TOPICS) & set(found["details"].get("sparse_probing", {}).get("labels", {})) and found["draws"]
    _, other = row(done, 4)
    assert "sparse_probing@topics.auc_1" not in other["values"] and other["missing"]["sparse_probing@topics"] == "not asked for at this reading"
    page = (done / "leaderboard" / "small.md").read_text(encoding="utf-8")
    assert "sparse_probing@topics.auc_1" in page and "sparse_probing@tags: every column" in page


def test_the_numbers_are_those_of_the_metric_shown_that_text_document_by_document(material: Path, done: Path) -> None:
    """Tokenised, cut, run through the model and scaled here by hand, without windows or passes."""
    record, found = row(done)
    kind = plugins.variant("topk")
    variant = kind(kind.Config(k=8), 32, 64, 0)
    units, _ = weights.load(done / "runs" / "small" / f"{record['train_key']}.safetensors", variant)
    documents = Classes(Files((str(done / "topics.jsonl"),), "json", "body"), "topic", documents=300, length=LENGTH).read()
    assert len(documents.texts) == 300
    model = SubjectModel.load(str(material / "model"), None, Hook(2, "resid_post"), "cpu", torch.float32)
    coded = [model.encode(text) for text in documents.texts]
    assert max(len(ids) for ids, _ in coded) > LENGTH, "else nothing is cut"
    texts = tuple(text[: int(spans[:LENGTH][-1, 1])] for text, (_, spans) in zip(documents.texts, coded, strict=True))
    lengths = tuple(min(LENGTH, len(ids)) for ids, _ in coded)
    metric = plugins.metric("sparse_probing")(Setting(32, 64, 64, 300, 8, lengths, variant.W_dec.norm(dim=1), units.statistics, W_dec=variant.W_dec.detach()))
    for document, ((ids, spans), rows) in enumerate(zip(coded, lengths, strict=True)):
        tokens = torch.tensor([[model.bos, *ids[:LENGTH].tolist()]])
        x = model.capture(tokens).activation[0, 1:].float() * units.scale
        place, span = torch.full((rows,), document), torch.from_numpy(spans[:LENGTH].astype(np.int64))
        massive = units.is_massive(x / units.scale)
        text = Text(x, place, torch.arange(rows), tokens[0, 1:], span, massive, texts, Rest(x, ~massive, x[:, 0]), model.embed, documents.labels)
        with torch.no_grad():
            codes = variant.encode(x, READING)
            metric.update(Batch(text, variant.decode(codes), codes))
    for column, value in metric.result(None).items():
        assert found["values"][f"sparse_probing@topics.{column}"] == pytest.approx(value, abs=2e-3), column


def test_a_changed_labelled_text_is_measured_anew_and_nothing_else(
    material: Path, done: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Without training; numbers on other texts stay to the bit. A second run has nothing to do."""
    path = small(material, done)
    monkeypatch.setattr(SubjectModel, "load", refuse)
    assert main(["run", str(path), "--output", str(done), "--device", "cpu"]) == 0
    monkeypatch.undo()
    refuse_training(monkeypatch)
    _, before = row(done)
    topics(done, documents=330)
    assert main(["plan", str(path), "--output", str(done), "--device", "cpu"]) == 0
    said = capsys.readouterr().out
    assert "1 reading lacks sparse_probing@topics" in said and "labelled: topics, at most 6,000 tokens of 300 documents" in said
    with monkeypatch.context() as patch:
        patch.setattr(MeasuringPass, "measure_on", only_on("topics"))
        assert main(["run", str(path), "--output", str(done), "--device", "cpu"]) == 0
    _, after = row(done)
    changed = {name for name in before["keys"] if before["keys"][name] != after["keys"][name]}
    assert changed == {"sparse_probing@topics"}
    kept = {column: value for column, value in before["values"].items() if "@topics" not in column}
    assert kept == {column: value for column, value in after["values"].items() if "@topics" not in column}


def only_on(text: str) -> Any:
    """Measures as ever, and fails on any other text."""
    measure_on = MeasuringPass.measure_on

    def measured(self: MeasuringPass, asked: str, *rest: Any) -> Any:
        assert asked == text
        return measure_on(self, asked, *rest)

    return measured


def test_a_labelled_file_that_is_missing_ends_before_anything_is_trained(
    material: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """In one sentence that names it."""
    path = small(material, tmp_path)
    (tmp_path / "topics.jsonl").unlink()
    monkeypatch.setattr(stream.Stream, "__init__", refuse)
    assert main(["run", str(path), "--output", str(tmp_path), "--device", "cpu"]) != 0
    assert f"labelled.topics.paths: {tmp_path / 'topics.jsonl'} is not a file" in capsys.readouterr().err
    (tmp_path / "topics.jsonl").write_text('{"body": "a", "topic": "b"}\n', encoding="utf-8")
    assert main(["run", str(path), "--output", str(tmp_path), "--device", "cpu"]) != 0
    assert "labelled.topics.label: 1 classes are known (b), wanted at least 2" in capsys.readouterr().err
