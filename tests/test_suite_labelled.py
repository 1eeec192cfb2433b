"""The labelled texts of a suite: what may be said of them, and the one sentence in which anything else is refused."""

from pathlib import Path

import pytest

from sae_bench_htopk import keys, suite
from sae_bench_htopk.document_classes import Classes, Part
from sae_bench_htopk.suite import SuiteError
from sae_bench_htopk.tagged_words import Tagged
from sae_bench_htopk.text import Files, Hub
from tests.test_suite import GOOD

LABELLED = """\
labelled:
  news: {source: hub, path: some/news, revision: abc, split: test, label: label, documents: 300}
  pairs: {source: hub, path: some/pairs, revision: abc, length: 64, parts: [{label: en, name: en-fr, column: translation.en}, {label: de, name: de-en}]}
  code: {source: files, paths: [a.jsonl], format: json, column: content, label: path, names: {.c: C, .py: Python}, match: ending, skip: 150}
  ner: {kind: tags, source: files, paths: [a.parquet], format: parquet, column: tokens, tags: ner_tags, merge: true, names: {PER: person}}
"""


def loaded(folder: Path, content: str) -> suite.Suite:
    """The suite of a file that holds this."""
    (folder / "mine.yaml").write_text(content, encoding="utf-8")
    return suite.load(str(folder / "mine.yaml"))


def test_labelled_texts_are_what_their_file_says(tmp_path: Path) -> None:
    """Keys of the source and of the kind stand together."""
    found = {name: labelled.text for name, labelled in loaded(tmp_path, GOOD + LABELLED).labelled.items()}
    pairs = Part("en", "en-fr", "translation.en"), Part("de", "de-en")
    assert found == {
        "news": Classes(Hub("some/news", "abc", split="test"), "label", documents=300),
        "pairs": Classes(Hub("some/pairs", "abc"), parts=pairs, length=64),
        "code": Classes(Files(("a.jsonl",), "json", "content"), "path", names={".c": "C", ".py": "Python"}, match="ending", skip=150),
        "ner": Tagged(Files(("a.parquet",), "parquet", "tokens"), "ner_tags", {"PER": "person"}, merge=True),
    }
    assert loaded(tmp_path, GOOD).labelled == {}


BAD = [  # (what is replaced, by what, the key that the message names, what the message says)
    ("source: hub, path: some/news", "source: huge, path: some/news", "labelled.news.source", "huge is not known here; known: files, hub"),
    ("source: hub, path: some/news", "source: installed, path: some/news", "labelled.news.source", "installed is not known here; known: files, hub"),
    ("source: hub, path: some/news", "path: some/news", "labelled.news", "the key source is missing, wanted one of files, hub"),
    ("revision: abc, split: test", "split: test", "labelled.news", "the key revision is missing, wanted text"),
    ("split: test", "spilt: test", "labelled.news.spilt", "unknown key (test given); did you mean split?"),
    ("label: label", "tags: label", "labelled.news.tags", "unknown key (label given)"),
    (", label: label", "", "labelled.news", "label or parts, wanted one of the two"),
    ("documents: 300", "documents: 0", "labelled.news.documents", "0, wanted a whole number of at least 1"),
    ("documents: 300", "documents: many", "labelled.news.documents", "many, wanted a whole number"),
    ("length: 64", "length: 0", "labelled.pairs.length", "0, wanted a whole number of at least 1"),
    ("length: 64", "label: x", "labelled.pairs.parts", "label is given too, wanted one of the two"),
    ("length: 64", "names: {a: b}", "labelled.pairs.names", "each of the parts names its own class, wanted none"),
    ("{label: de, name: de-en}", "{label: de, paths: [a.json]}", "labelled.pairs.parts", "paths is given, which is no key of this source"),
    ("{label: de, name: de-en}", "{label: en, name: en-fr, column: translation.en}", "labelled.pairs.parts", "one is given twice, wanted every one once"),
    ("{label: de, name: de-en}", "{name: de-en}", "labelled.pairs.parts[1]", "the key label is missing, wanted text"),
    ("{label: de, name: de-en}", "{label: de, nmae: de-en}", "labelled.pairs.parts[1].nmae", "did you mean name?"),
    ("match: ending", "match: end", "labelled.code.match", "end is not known here; did you mean ending? known: ending, whole"),
    (", names: {.c: C, .py: Python}", "", "labelled.code.match", "ending, wanted names beside it"),
    ("skip: 150", "skip: -1", "labelled.code.skip", "-1, wanted a whole number of at least 0"),
    ("{.c: C, .py: Python}", "{}", "labelled.code.names", "wanted a mapping"),
    ("kind: tags", "kind: tag", "labelled.ner.kind", "tag is not known here; did you mean tags? known: classes, tags"),
    ("tags: ner_tags, ", "", "labelled.ner", "the key tags is missing, wanted text"),
    ("  news:", "  held_out:", "labelled", "held_out, wanted names of small letters, digits and _, and not held_out"),
    ("  news:", "  news@home:", "labelled", "news@home, wanted names of small letters, digits and _"),
]


@pytest.mark.parametrize(("old", "new", "path", "said"), BAD, ids=[f"{new or old} at {path}" for old, new, path, _ in BAD])
def test_bad_input_names_file_key_value_and_what_is_wanted(tmp_path: Path, old: str, new: str, path: str, said: str) -> None:
    assert LABELLED.count(old) == 1
    with pytest.raises(SuiteError) as caught:
        loaded(tmp_path, GOOD + LABELLED.replace(old, new))
    message = str(caught.value)
    assert f": {path}: " in message and said in message and "\n" not in message, message
    assert message.startswith(f"{tmp_path / 'mine.yaml'}:")


def test_no_labelled_text_at_all(tmp_path: Path) -> None:
    """A key without anything under it is a slip."""
    with pytest.raises(SuiteError, match=r"labelled: \{\}, wanted a mapping that is not empty"):
        loaded(tmp_path, GOOD + "labelled: {}\n")


def test_a_metric_names_the_texts_that_it_is_measured_on(tmp_path: Path) -> None:
    """Held-out text alone, unless it says otherwise; each text has a name of its own in keys and columns."""
    uses = loaded(tmp_path, (GOOD + LABELLED).replace("only: {k: [8], select: [native]}", "on: [held_out, news, ner]")).metrics
    assert [use.names() for use in uses] == [("explained_variance",), ("downstream_loss", "downstream_loss@news", "downstream_loss@ner")]


@pytest.mark.parametrize(
    ("on", "path", "said"),
    [
        ("[nwes]", "metrics[1].on[0]", "nwes is not known here; did you mean news? known: code, held_out, ner, news, pairs"),
        ("[held_out, train]", "metrics[1].on[1]", "train is not known here; "),
        ("[news, news]", "metrics[1].on", "[news, news], wanted every value once"),
        ("news", "metrics[1].on", "news, wanted a list"),
        ("[]", "metrics[1].on", "[], wanted a list"),
    ],
)
def test_a_text_that_is_not_there(tmp_path: Path, on: str, path: str, said: str) -> None:
    with pytest.raises(SuiteError) as caught:
        loaded(tmp_path, (GOOD + LABELLED).replace("only: {k: [8], select: [native]}", f"on: {on}"))
    assert f"mine.yaml:13: {path}: " in str(caught.value) and said in str(caught.value), caught.value


def facts(found: suite.Suite, **labelled: str) -> keys.Facts:
    """Made-up fingerprints of the texts of a suite."""
    return keys.Facts({part: part for part in ("train", "calibration", "held_out")}, "model", dict.fromkeys(found.labelled, "same") | labelled)


def test_a_labelled_text_is_part_of_the_keys_of_what_is_measured_on_it_alone(tmp_path: Path) -> None:
    """Another text of that name is measured anew; the numbers on held-out text stay, and are those of a suite without labelled texts."""
    found = loaded(tmp_path, (GOOD + LABELLED).replace("only: {k: [8], select: [native]}", "on: [held_out, news, ner]"))
    plain = loaded(tmp_path, GOOD.replace(", only: {k: [8], select: [native]}", ""))
    before, after, without = (
        {place: key for training in keys.resolve(one, facts(one, **other)) for number, cell in enumerate(training.cells)
         for reading, named in cell.keys.items() for name, key in named.items() for place in [(training.key, number, reading, name)]}
        for one, other in ((found, {}), (found, {"news": "other"}), (plain, {}))
    )  # fmt: skip
    assert set(before) == set(after)
    assert all(key != before[*place, "downstream_loss"] for (*place, name), key in before.items() if name != "downstream_loss")
    assert {name for (*_, name), key in before.items() if after[*_, name] != key} == {"downstream_loss@news"}
    assert without == {place: key for place, key in before.items() if "@" not in place[-1]}


@pytest.mark.parametrize("name", ["gemma2_2b", "gemma2_2b_progressive", "pythia_160m"])
def test_the_suites_of_large_models_have_the_four_data_sets(name: str) -> None:
    """Streamed from the hub; whether they are there as described was not tried, for want of a network."""
    found = suite.load(name)
    assert {labelled.text.source.path for labelled in found.labelled.values() if isinstance(labelled.text.source, Hub)} == {
        "fancyzhx/ag_news", "Helsinki-NLP/europarl", "macrocosm-os/code-parrot-github-code", "LabHC/bias_in_bios",
    }  # fmt: skip
    (use,) = [use for use in found.metrics if set(use.on) == set(found.labelled)]
    assert use.only is not None
    for labelled in found.labelled.values():
        assert isinstance(labelled.text, Classes) and labelled.text.documents >= 300 * len(labelled.text.classes())
