"""The split of text: parts never meet, whatever the order, and near-duplicates stay together."""

import random
from pathlib import Path

from sae_bench_htopk import split
from sae_bench_htopk.corpus import Corpus
from sae_bench_htopk.text import Document, Installed


def documents(count: int, words: int = 120) -> list[Document]:
    """Documents of random words; no two share a run of five."""
    draw = random.Random(3)
    return [Document(f"d{index}", " ".join(f"w{draw.randrange(10**6)}" for _ in range(words)), "made") for index in range(count)]


def test_near_duplicates_share_a_group_and_others_do_not() -> None:
    """A copy with one word in 40 changed joins its original; unrelated texts stay alone."""
    plain = documents(20, words=400)
    words = plain[0].text.split()
    changed = Document("copy", " ".join("changed" if index % 40 == 7 else word for index, word in enumerate(words)), "made")
    groups = split.group_near_duplicates([*plain, changed])
    assert groups[0] == groups[-1] and len(set(groups)) == 20


def test_a_large_family_is_one_group() -> None:
    """100 copies, each with its own word changed: more holders of a run of words than are compared in pairs."""
    words = documents(1, words=400)[0].text.split()
    family = [Document(str(n), " ".join([*words[: 3 * n], f"own{n}", *words[3 * n + 1 :]]), "made") for n in range(100)]
    assert len(set(split.group_near_duplicates([*family, *documents(5)][:100]))) == 1


def test_groups_and_parts_do_not_depend_on_order() -> None:
    """Shuffled documents get the same groups and so the same parts."""
    plain = documents(60)
    plain.append(Document("again", plain[5].text + " and a word", "made"))
    before = dict(zip((d.name for d in plain), split.group_near_duplicates(plain), strict=True))
    random.Random(1).shuffle(plain)
    assert dict(zip((d.name for d in plain), split.group_near_duplicates(plain), strict=True)) == before
    assert before["again"] == before["d5"]


def test_shares_of_the_parts() -> None:
    """Over many groups each part gets its share; the rule knows nothing but the group."""
    parts = [split.part_of(f"group {index}") for index in range(20_000)]
    assert abs(parts.count("held_out") / 20_000 - split.HELD_OUT_SHARE) < 0.01
    assert abs(parts.count("calibration") / 20_000 - split.CALIBRATION_SHARE) < 0.01


def test_installed_source_has_disjoint_parts_and_no_tests() -> None:
    """Real distributions: no text in two parts, no test file, all parts present, the same fingerprint twice."""
    source = Installed({"networkx": "3.6.1", "jinja2": "0.0"})
    corpus = Corpus(source)
    texts = {part: {document.text for document in corpus.parts[part]} for part in corpus.parts}
    assert all(texts.values())
    assert not (texts["train"] & texts["held_out"] or texts["train"] & texts["calibration"] or texts["held_out"] & texts["calibration"])
    names = [Path(document.name) for part in corpus.parts.values() for document in part]
    assert not any(name.name == "conftest.py" or "tests" in name.parts for name in names)
    assert corpus.fingerprint("train") == Corpus(source).fingerprint("train") != corpus.fingerprint("held_out")
    assert any("jinja2" in note and "0.0" in note for note in source.notes())
