"""Primary contrasts in a suite's file: what records then say of them, that no number depends on them, and every way of getting them wrong."""

from collections.abc import Callable
from pathlib import Path

import pytest

from sae_bench_htopk import declarations, keys, recording, records, suite
from tests.test_leaderboard import make
from tests.test_suite import failure

SUITE = """\
schema: 1
title: A suite of a test
model: {path: pycode_gemma2, hook: {layer: 3, site: resid_post}, shape: {d: 192, layers: 6, vocab: 4096}, context: 64}
text: {source: installed, distributions: {sympy: "1.14.0"}, held_out: {tokens: 640}, calibration: {tokens: 640}}
train: {tokens: 1000, batch: 100, latents: 64, rate: 0.5}
seeds: [0, 5]
saes:
  - {variant: topk, k: 8}
  - {variant: topk, k: 8, rate: 0.25}
  - {variant: batchtopk, sweep: {k: [4, 8]}}
  - {variant: matryoshka, k: 8, groups: [0.25, 1.0], read: {latents: [all, 32]}}
  - {variant: topk, k: 8, latents: 32}
  - {variant: pruned_vanilla, base: batchtopk, k: 8, read: {latents: [all, 32]}}
read: {k: [4, 8], latents: [all]}
metrics: [explained_variance, {metric: downstream_loss, only: {k: [8], latents: [all], select: [native]}}]
controls: [pca]
"""
ONE = "{column: explained_variance.ev, k: 8, one: {variant: batchtopk, k: 8}, other: {variant: matryoshka}}"
FEWER = "{column: explained_variance.ev, k: 4, latents: 32, one: {variant: matryoshka}, other: {variant: pruned_vanilla, base: batchtopk}}"
TRAINED_SO = "{column: explained_variance.ev, k: 8, latents: 32, one: {variant: matryoshka}, other: {variant: topk, latents: 32}}"
BY_RATE = "{column: downstream_loss.delta, k: 8, one: {variant: topk, latents: 64, rate: 0.25}, other: {variant: topk, rate: 0.5, latents: 64}}"
PLAIN = "{column: explained_variance.ev, k: 8, one: {variant: batchtopk, k: 4}, other: {variant: matryoshka}}"


@pytest.fixture
def write(tmp_path: Path) -> Callable[..., str]:
    """Writes the suite with some contrasts and gives the path of its file."""

    def to_file(*pairs: str, why: str = "why: One against another.") -> str:
        lines = [f"contrasts:\n  {why}\n  pairs:", *(f"    - {pair}" for pair in pairs)]
        (tmp_path / "mine.yaml").write_text(SUITE + "\n".join(lines) + "\n", encoding="utf-8")
        return str(tmp_path / "mine.yaml")

    return to_file


def test_records_say_all_of_each_side(write: Callable[..., str]) -> None:
    """With every setting, the size and the learning rate, so that a page needs no suite."""
    page = recording.page_words(suite.load(write(ONE, FEWER, TRAINED_SO, BY_RATE)))
    first, fewer, trained_so, by_rate = page["contrasts"]["pairs"]
    assert page["contrasts"]["why"] == "One against another." and page["title"] == "A suite of a test"
    assert (first["column"], first["k"], first["latents"]) == ("explained_variance.ev", 8, None)
    assert first["one"] == {"variant": "batchtopk", "config": {"k": 8}, "latents": 64, "rate": 0.5}
    assert first["other"]["config"]["groups"] == [0.25, 1.0]  # as a record gives it back
    assert fewer["latents"] == 32 and fewer["other"]["config"] == {"base": "batchtopk", "k": 8, "l1": None}
    assert (trained_so["one"]["latents"], trained_so["other"]["latents"]) == (64, 32)
    assert (by_rate["one"]["rate"], by_rate["other"]["rate"]) == (0.25, 0.5)


def test_pages_read_what_runs_write(write: Callable[..., str], tmp_path: Path) -> None:
    """Through a record on disk; what is read back is what would be written again, so that no record is written without need."""
    words = recording.page_words(suite.load(write(ONE, FEWER)))
    record = records.read(records.write(tmp_path / "small", {**make(), "page": words}))
    assert record["page"] == words
    found = declarations.read(record)
    assert found is not None and [(pair.k, pair.latents, pair.one.variant) for pair in found[1]] == [(8, None, "batchtopk"), (4, 32, "matryoshka")]


def test_no_key_depends_on_them_and_records_are_renewed(write: Callable[..., str]) -> None:
    """Neither weights nor numbers; what a record says of its suite is what the suite says now."""
    facts = keys.Facts(dict.fromkeys(("train", "calibration", "held_out"), "text"), "model")
    declaring = suite.load(path := write(ONE))
    Path(path).write_text(SUITE, encoding="utf-8")
    plain = suite.load(path)
    assert keys.resolve(declaring, facts) == keys.resolve(plain, facts)
    assert "contrasts" not in recording.page_words(plain)
    training, old = keys.resolve(plain, facts)[0], make()
    renewed = recording.as_asked({**old, "page": recording.page_words(plain)}, declaring, training)
    assert renewed["page"] == recording.page_words(declaring) != old["page"]


@pytest.mark.parametrize(
    ("pairs", "message"),
    [
        ([ONE, ONE], "contrasts.pairs[1]: is the same contrast as contrasts.pairs[0] in line 20, wanted every contrast once, whichever way round"),
        (
            [ONE, "{column: explained_variance.ev, k: 8, latents: 64, one: {variant: matryoshka}, other: {variant: batchtopk, k: 8}}"],
            "contrasts.pairs[1]: is the same contrast as contrasts.pairs[0] in line 20, wanted every contrast once, whichever way round",
        ),
        ([ONE.replace("matryoshka", "batchtopk, k: 8")], "contrasts.pairs[0].other: {variant: batchtopk, k: 8} is the same SAE as one, wanted another"),
        (
            [ONE.replace("matryoshka", "pruned_vanilla")],
            "contrasts.pairs[0]: both sides read the same weights on the whole dictionary and are identical by construction, wanted two SAEs that can differ",
        ),
        ([ONE.replace("explained_variance.ev", "explained_variance.fvu")], "contrasts.pairs[0].column: explained_variance.fvu is not known here; "),
        (
            [ONE.replace("explained_variance.ev", "sparse_probing.auc_1")],
            "[0].column: sparse_probing.auc_1 is not measured at k 8 on all latents of {variant: batchtopk, k: 8} by its native selector, threshold, wanted a",
        ),
        (
            [FEWER.replace("explained_variance.ev", "downstream_loss.delta")],
            "contrasts.pairs[0].column: downstream_loss.delta is not measured at k 4 on 32 latents of {variant: matryoshka} by its native selector, threshold",
        ),
        (
            [ONE.replace("k: 8, one", "k: 5, one")],
            "contrasts.pairs[0].k: 5 is in no reading of {variant: batchtopk, k: 8} by its native selector, threshold, on all latents, wanted one of 4, 8",
        ),
        (
            [ONE.replace("k: 8, one", "k: 8, latents: 32, one")],
            "contrasts.pairs[0].latents: 32 latents are in no reading of {variant: batchtopk, k: 8} by its native selector, threshold, wanted one of 64",
        ),
        ([ONE.replace("k: 8, one", "k: 0, one")], "contrasts.pairs[0].k: 0, wanted a whole number of at least 1"),
        (
            [ONE.replace("variant: batchtopk, k: 8", "variant: batchtopk")],
            "contrasts.pairs[0].one: {variant: batchtopk} names 2 SAEs of the suite, wanted exactly one, told from the others by k",
        ),
        (
            [ONE.replace("matryoshka", "topk, k: 8, latents: 64")],
            "{variant: topk, k: 8, latents: 64} names 2 SAEs of the suite, wanted exactly one, told from the others by rate",
        ),
        (
            [ONE.replace("matryoshka", "topk, k: 16")],
            "contrasts.pairs[0].other: {variant: topk, k: 16}, wanted an SAE that stands under saes",
        ),
        ([ONE.replace("matryoshka", "pca")], "contrasts.pairs[0].other.variant: pca is not known here; "),
        ([ONE.replace("matryoshka", "topk, size: 8")], "contrasts.pairs[0].other.size: unknown key (8 given); "),
        ([ONE.replace("matryoshka", "topk, k: many")], "contrasts.pairs[0].other.k: many, wanted a whole number"),
        ([ONE.replace("k: 8, one", "k: 8, seed: 5, one")], "contrasts.pairs[0].seed: unknown key (5 given); "),
        ([ONE.replace("{variant: matryoshka}", "matryoshka")], "contrasts.pairs[0].other: matryoshka, wanted a mapping with the key variant"),
    ],
)  # fmt: skip
def test_what_is_refused(write: Callable[..., str], pairs: list[str], message: str) -> None:
    """In one sentence that names the file, the line and the key, what was given and what is wanted."""
    said = failure(write(*pairs))
    assert message in said and f"mine.yaml:{19 + len(pairs)}: " in said


def test_the_family_itself(write: Callable[..., str]) -> None:
    """A reason, at least one contrast and at most eight; a key with nothing under it is not no family."""
    assert "contrasts: the key why is missing, wanted one line of text" in failure(write(ONE, why="").replace("  \n", ""))
    many = [pair.replace("k: 8, one", f"k: {k}, one") for pair in (ONE, PLAIN) for k in (4, 8)]
    sizes = [pair.replace("k: 8,", f"k: {k},", 1).replace("k: 4,", f"k: {k},", 1) for pair in (FEWER, TRAINED_SO) for k in (4, 8)]
    others = [BY_RATE.replace("downstream_loss.delta", column) for column in ("explained_variance.ev", "downstream_loss.delta", "downstream_loss.kl")]
    every = [*many, *sizes, *others]
    assert len(every) == 11 and len((suite.load(write(*every[:8])).contrasts or pytest.fail("no family")).pairs) == 8
    assert "contrasts.pairs: " in (said := failure(write(*every[:9]))) and said.endswith("wanted at most 8 pairs")
    Path(path := write()).write_text(SUITE + "contrasts:\n", encoding="utf-8")
    assert failure(path).endswith("wanted a mapping with why and pairs, or no such key for no primary contrasts")
