"""Suites: every packaged one loads, readings multiply as solved by hand, and bad input ends in one sentence that says where and what."""

from collections.abc import Callable
from dataclasses import replace
from itertools import zip_longest
from pathlib import Path
from typing import Any

import pytest

from sae_bench_htopk import keys, plugins, suite
from sae_bench_htopk.contract import Reading
from sae_bench_htopk.lm import Hook
from sae_bench_htopk.strict_yaml import Value
from sae_bench_htopk.suite import HeldOut, Model, Only, Read, Sae, Shape, SuiteError
from sae_bench_htopk.suite_fields import Count, Limits
from sae_bench_htopk.text import Files, Hub, Installed
from sae_bench_htopk.typed import build, words

GOOD = """\
schema: 1
title: A suite of a test
model: {path: pycode_gemma2, hook: {layer: 3, site: resid_post}, shape: {d: 192, layers: 6, vocab: 4096}, context: 64}
text: {source: installed, distributions: {sympy: "1.14.0"}, held_out: {tokens: 640}, calibration: {tokens: 640}}
train: {tokens: 1000, batch: 100, latents: 64}
seeds: [0, 5]
saes:
  - {variant: topk, k: 8}
  - {variant: batchtopk, sweep: {k: [4, 8]}}
  - {variant: matryoshka, k: 8, groups: [0.25, 1.0], read: {latents: [all, 16]}}
  - {variant: topk, k: 8, latents: 32}
read: {k: [4, 8], latents: [null, 32]}
metrics: [explained_variance, {metric: downstream_loss, only: {k: [8], select: [native]}}]
controls: [pca, untrained]
"""


@pytest.fixture
def write(tmp_path: Path) -> Callable[[str], str]:
    """Writes a suite and gives the path of its file."""

    def to_file(content: str) -> str:
        path = tmp_path / "mine.yaml"
        path.write_text(content, encoding="utf-8")
        return str(path)

    return to_file


def failure(path: str) -> str:
    """The message of the error with which a suite is refused."""
    with pytest.raises(SuiteError) as caught:
        suite.load(path)
    message = str(caught.value)
    assert "\n" not in message
    return message


def test_a_good_suite_says_what_its_file_says(write: Callable[[str], str]) -> None:
    found = suite.load(write(GOOD))
    assert (found.name, found.title, found.demonstration, found.schema) == ("mine", "A suite of a test", False, 1)
    assert found.model == Model("pycode_gemma2", Hook(3, "resid_post"), Shape(192, 6, 4096), None, "float32", 64)
    assert found.text.source == Installed({"sympy": "1.14.0"}) and found.text.held_out == HeldOut(640, None)
    assert (found.train.tokens, found.train.rate, found.train.betas) == (1000, None, (0.9, 0.999))
    assert found.seeds == (0, 5) and found.controls == ("pca", "untrained")
    assert [(use.name, use.only) for use in found.metrics] == [("explained_variance", None), ("downstream_loss", Limits((Only(k=(8,), select=("native",)),)))]


def test_the_number_of_processes_moves_no_key(write: Callable[[str], str]) -> None:
    """They only make the same tokens sooner."""
    facts = keys.Facts(dict.fromkeys(("train", "calibration", "held_out"), "text"), "model")
    several = suite.load(write(GOOD.replace("held_out: {", "workers: 3, held_out: {")))
    plain = suite.load(write(GOOD))
    assert (plain.text.workers, several.text.workers) == (0, 3)
    assert keys.resolve(plain, facts) == keys.resolve(several, facts)
    assert "text.workers: -1, wanted a whole number of at least 0" in failure(write(GOOD.replace("held_out: {", "workers: -1, held_out: {")))


def test_what_a_layer_weighs_moves_no_key(write: Callable[[str], str]) -> None:
    """Of weights, of latents or of any number: only plans depend on it; all else about the model's shape is in none either, since its files are."""
    facts = keys.Facts(dict.fromkeys(("train", "calibration", "held_out"), "text"), "model")
    plain, told = suite.load(write(GOOD)), suite.load(write(GOOD.replace("vocab: 4096}", "vocab: 4096, layer_weights: 500}")))
    assert (plain.model.shape.of_layer(), told.model.shape.of_layer()) == (12 * 192**2, 500)
    assert keys.resolve(plain, facts) == keys.resolve(told, facts)
    assert "model.shape.layer_weights: 0, wanted a whole number of at least 1" in failure(write(GOOD.replace("vocab: 4096}", "vocab: 4096, layer_weights: 0}")))


def test_a_metric_may_have_a_list_of_readings(write: Callable[[str], str]) -> None:
    """Of each mapping the product, of the list the union."""
    (_, use) = suite.load(write(GOOD.replace("only: {k: [8], select: [native]}", "only: [{k: [8], select: [row]}, {latents: [32]}]"))).metrics
    assert use.only is not None
    for reading, allowed in ((Reading(8), True), (Reading(8, select="threshold"), False), (Reading(4), False), (Reading(4, 32, "threshold"), True)):
        assert use.only.allows(reading, "row", 0, 64) == allowed


def test_a_trained_control_has_the_rate_of_most_saes_at_its_budget(write: Callable[[str], str]) -> None:
    """Else it would bound them at a rate that is not theirs; of controls that are not trained the rate says nothing."""
    text = GOOD.replace("controls: [pca, untrained]", "controls: [pca, random_decoder]").replace("{variant: topk, k: 8}", "{variant: topk, k: 8, rate: 0.1}")
    for given, wanted in ((text, None), (text.replace("{variant: matryoshka, k: 8,", "{variant: matryoshka, k: 8, rate: 0.1,"), 0.1)):
        found = keys.resolve(suite.load(write(given)), keys.Facts({part: part for part in ("train", "calibration", "held_out")}, "model"))
        rates = {training.variant: training.recipe.rate for training in found if training.control}
        assert rates == {"pca": None, "random_decoder": wanted}


def test_sweeps_and_seeds_multiply_and_entries_override_the_reading(write: Callable[[str], str]) -> None:
    saes = suite.load(write(GOOD)).saes
    budgets = [(sae.variant, sae.config.k, sae.latents, sae.seed) for sae in saes]
    trained = [("topk", 8, 64), ("batchtopk", 4, 64), ("batchtopk", 8, 64), ("matryoshka", 8, 64), ("topk", 8, 32)]
    assert budgets == [(*one, seed) for one in trained for seed in (0, 5)]
    assert saes[0].config == plugins.variant("topk").Config(k=8)
    assert saes[6].config.groups == (0.25, 1.0) and saes[6].read == (Read((4, 8), (None, 16)),)
    assert {sae.read for sae in saes if sae.variant != "matryoshka"} == {(Read((4, 8), (None, 32)),)}


def test_two_swept_keys_multiply(write: Callable[[str], str]) -> None:
    content = GOOD.replace("- {variant: topk, k: 8, latents: 32}", "- {variant: topk, sweep: {k: [2, 3], latents: [16, 32]}}")
    saes = [sae for sae in suite.load(write(content)).saes if sae.latents < 64 and sae.seed == 0]
    assert [(sae.config.k, sae.latents) for sae in saes] == [(2, 16), (2, 32), (3, 16), (3, 32)]


def readings(size: int, **read: Any) -> list[Reading]:
    """The readings of an SAE of `size` latents."""
    return list(Sae("topk", plugins.variant("topk").Config(k=8), size, 0, (Read(**read),)).readings())


def test_readings_are_the_product() -> None:
    assert readings(64, k=(4, 8), latents=(None, 32)) == [
        Reading(4, None, "row"),
        Reading(4, None, "threshold"),
        Reading(4, 32, "row"),
        Reading(4, 32, "threshold"),
        Reading(8, None, "row"),
        Reading(8, None, "threshold"),
        Reading(8, 32, "row"),
        Reading(8, 32, "threshold"),
    ]


def test_readings_less_what_makes_no_sense() -> None:
    assert readings(64, k=(8,), latents=(None, 128), select=("row",)) == [Reading(8)]  # more latents than there are
    assert readings(64, k=(8,), latents=(None, 64), select=("row",)) == [Reading(8)]  # all of them is the whole dictionary
    assert readings(64, k=(8,), latents=(64,), select=("row",)) == [Reading(8)]
    assert readings(64, k=(8, 65), select=("row",)) == [Reading(8)]  # more codes than latents
    assert readings(64, k=(8, 32), latents=(None, 16), select=("row",)) == [Reading(8), Reading(8, 16), Reading(32)]
    assert readings(64, k=(64,), select=("row",)) == [Reading(64)]  # beyond the trained budget is a reading like any other


def test_cut_and_rank_say_nothing_about_the_whole_dictionary() -> None:
    assert readings(64, k=(8,), latents=(None, 16), select=("row",), cut=("after", "before"), rank=("frequency", "random")) == [
        Reading(8),
        Reading(8, 16, "row", "after", "frequency"),
        Reading(8, 16, "row", "after", "random"),
        Reading(8, 16, "row", "before", "frequency"),
        Reading(8, 16, "row", "before", "random"),
    ]


def test_a_cut_after_the_choice_may_choose_more_codes_than_it_keeps_latents() -> None:
    assert readings(64, k=(32,), latents=(16,), select=("row",), cut=("before", "after")) == [Reading(32, 16, "row", "after")]


def test_limits_of_a_metric() -> None:
    row, threshold, cut = Reading(8), Reading(8, None, "threshold"), Reading(8, 16, rank="random")
    assert Only().allows(row, "row", 0, 64)
    assert Only(k=(4, 8)).allows(row, "row", 0, 64) and not Only(k=(4,)).allows(row, "row", 0, 64)
    native = Only(select=("native",))
    assert [native.allows(reading, selector, 0, 64) for reading in (row, threshold) for selector in ("row", "threshold")] == [True, False, False, True]
    assert Only(select=("row",)).allows(row, "threshold", 0, 64)
    assert Only(latents=(None,)).allows(row, "row", 0, 64) and not Only(latents=(None,)).allows(cut, "row", 0, 64)
    assert not Only(rank=("importance",)).allows(cut, "row", 0, 64) and not Only(cut=("after",)).allows(cut, "row", 0, 64)
    assert Only(seeds=(0, 1)).allows(row, "row", 1, 64) and not Only(seeds=(0, 1)).allows(row, "row", 2, 64)


def test_every_source_of_text(write: Callable[[str], str]) -> None:
    old = 'source: installed, distributions: {sympy: "1.14.0"}'
    files = suite.load(write(GOOD.replace(old, "source: files, paths: [a.txt, b.txt], format: text")))
    assert files.text.source == Files(("a.txt", "b.txt"), "text", "text")
    hub = suite.load(write(GOOD.replace(old, "source: hub, path: a/b, revision: main, column: body")))
    assert hub.text.source == Hub("a/b", "main", None, "train", "body")


# The traps of PyYAML: what it reads as something else, or silently.


def test_numbers_are_numbers(write: Callable[[str], str]) -> None:
    content = GOOD.replace("tokens: 1000, batch: 100", "tokens: 1e6, batch: 1_000, rate: 3e-4, warm_up: 0, decay: 1, auxk: .5")
    train = suite.load(write(content)).train
    assert (train.tokens, train.batch, train.rate, train.decay, train.auxk) == (1_000_000, 1000, 0.0003, 1.0, 0.5)
    assert (type(train.tokens), type(train.decay)) == (int, float)


@pytest.mark.parametrize("text", ["off", "yes", "True", "12:30", "2026-11-20", "010", "0x10", ".inf", ".nan", "1.2.3", "0.5_0"])
def test_text_stays_text(write: Callable[[str], str], text: str) -> None:
    assert suite.load(write(GOOD.replace("A suite of a test", text))).title == text
    assert f"train.batch: {text}, wanted a whole number" in failure(write(GOOD.replace("batch: 100", f"batch: {text}")))


def test_booleans_are_true_and_false(write: Callable[[str], str]) -> None:
    assert suite.load(write(GOOD + "demonstration: true\n")).demonstration
    assert not suite.load(write(GOOD + "demonstration: false\n")).demonstration
    assert "demonstration: off, wanted true or false" in failure(write(GOOD + "demonstration: off\n"))


BAD = [
    # unknown keys and names, with the nearest
    ("title: A", "titel: A", "titel", "unknown key (A suite of a test given); did you mean title?"),
    ("batch: 100", "bach: 100", "train.bach", "unknown key (100 given); did you mean batch?"),
    ("layer: 3", "layers: 3", "model.hook.layers", "unknown key (3 given); did you mean layer?"),
    ("held_out:", "heldout:", "text.heldout", "did you mean held_out?"),
    ("{sympy:", "{sympy: '1', column: x}, columns: {sympy:", "text.columns", "unknown key"),
    ("- {variant: topk, k: 8}", "- {variant: topk, k: 8, stride: 2}", "saes[0].stride", "unknown key (2 given); known: k, latents, rate, read, sweep, variant"),
    ("sweep: {k:", "sweep: {kk:", "saes[1].sweep.kk[0]", "unknown key (4 given); did you mean k?"),
    ("{latents: [all, 16]}", "{latent: [all, 16]}", "saes[2].read.latent", "did you mean latents?"),
    ("- {variant: topk, k: 8}", "- {variant: topkk, k: 8}", "saes[0].variant", "topkk is not known here; did you mean topk? known: batchtopk, hier"),
    ("[explained_variance,", "[explained_varience,", "metrics[0]", "explained_varience is not known here; did you mean explained_variance?"),
    ("{metric: downstream_loss", "{metric: downstream_los", "metrics[1].metric", "downstream_los is not known here; did you mean downstream_loss?"),
    ("controls: [pca", "controls: [pcaa", "controls[0]", "pcaa is not known here; did you mean pca? known: pca, random_decoder, untrained"),
    ("site: resid_post", "site: resid_pos", "model.hook.site", "resid_pos is not known here; did you mean resid_post?"),
    ("source: installed", "source: instaled", "text.source", "instaled is not known here; did you mean installed? known: files, hub, installed"),
    ("k: [8], select: [native]", "k: [8], select: [nativ]", "metrics[1].only.select[0]", "nativ is not known here; did you mean native?"),
    ("groups: [0.25, 1.0]", "groups: [0.25, 1.0], base: topkk", "saes[2].base", "topkk is not known here; did you mean topk?"),
    ("context: 64", "context: 64, dtype: float16", "model.dtype", "float16 is not known here; did you mean bfloat16? known: bfloat16, float32"),
    # types
    ("tokens: 1000", "tokens: many", "train.tokens", "many, wanted a whole number"),
    ("tokens: 1000", "tokens: '1000'", "train.tokens", "'1000', wanted a whole number"),
    ("tokens: 1000", "tokens: 1000.5", "train.tokens", "1000.5, wanted a whole number"),
    ("tokens: 1000", "tokens: true", "train.tokens", "true, wanted a whole number"),
    ("tokens: 1000", "tokens:", "train.tokens", "nothing, wanted a whole number"),
    ("tokens: 1000", "tokens: [1000]", "train.tokens", "[1000], wanted a whole number"),
    ("batch: 100", "batch: 100, rate: fast", "train.rate", "fast, wanted a number"),
    ("batch: 100", "batch: 100, rate: 1e999", "train.rate", "1e999, wanted a number"),
    ("batch: 100", "batch: 100, betas: [0.9]", "train.betas", "[0.9], wanted a list of 2, each of a number"),
    ("seeds: [0, 5]", "seeds: 0", "seeds", "0, wanted a list such as [a, b], each of a whole number"),
    ("k: [4, 8], latents", "k: 4, latents", "read.k", "4, wanted a list"),
    ("k: [4, 8], latents", "k: [4, 8.5], latents", "read.k[1]", "8.5, wanted a whole number"),
    ("latents: [null, 32]", "latents: [null, most]", "read.latents[1]", "most, wanted a whole number"),
    ("sweep: {k: [4, 8]}", "sweep: {k: 4}", "saes[1].sweep.k", "4, wanted a list"),
    ("sweep: {k: [4, 8]}", "sweep: [4, 8]", "saes[1].sweep", "[4, 8], wanted a mapping"),
    ("k: [8], select: [native]", "k: 8", "metrics[1].only.k", "8, wanted a list"),
    ("k: [8], select: [native]", "latents: null", "metrics[1].only.latents", "null, wanted a list, or no such key"),
    ('sympy: "1.14.0"', "sympy: 1.14", "text.distributions.sympy", "1.14, wanted text (in quotes"),
    ("path: pycode_gemma2", "path: ''", "model.path", "'', wanted text"),
    ("hook: {layer: 3, site: resid_post}", "hook: 3", "model.hook", "3, wanted a mapping with keys of layer, site"),
    ("read: {latents: [all, 16]}", "read: 16", "saes[2].read", "16, wanted a mapping with keys of k, latents"),
    ("- {variant: topk, k: 8}", "- topk", "saes[0]", "topk, wanted a mapping with the key variant"),
    # numbers that cannot be
    ("batch: 100", "batch: 100, ema_from: 1.0", "train.ema_from", "1.0, wanted below 1"),
    ("tokens: 1000", "tokens: 0", "train.tokens", "0, wanted a number above 0"),
    ("tokens: 1000", "tokens: -5", "train.tokens", "-5, wanted a number above 0"),
    ("batch: 100", "batch: 100, rate: -3e-4", "train.rate", "-3e-4, wanted a number above 0"),
    ("batch: 100", "batch: 100, decay: -0.1", "train.decay", "-0.1, wanted a number of at least 0"),
    ("batch: 100", "batch: 100, warm_up: 1.5", "train.warm_up", "1.5, wanted at most 1 together with decay"),
    ("batch: 100", "batch: 100, betas: [0.9, -1]", "train.betas", "[0.9, -1.0], wanted two numbers of at least 0 and below 1"),
    ("batch: 100", "batch: 2000", "train.tokens", "1000, wanted at least one batch of 2000"),
    ("held_out: {tokens: 640}", "held_out: {tokens: 0}", "text.held_out.tokens", "0, wanted a whole number of at least 1"),
    ("held_out: {tokens: 640}", "held_out: {tokens: 63}", "text.held_out.tokens", "63, wanted at least one window of 64"),
    ("context: 64", "context: 1", "model.context", "1, wanted at least 2 tokens"),
    ("seeds: [0, 5]", "seeds: [0, -5]", "seeds[1]", "-5, wanted a whole number of at least 0"),
    ("k: [4, 8], latents", "k: [0, 8], latents", "read.k[0]", "0, wanted a whole number of at least 1"),
    ("layer: 3", "layer: 6", "model.hook.layer", "6, wanted 0 to 5, since the model's shape has 6 layers"),
    ("layer: 3", "layer: -1", "model.hook.layer", "-1, wanted 0 to 5"),
    ("- {variant: topk, k: 8}", "- {variant: topk, k: 0}", "saes[0].k", "0, wanted a budget of at least 1"),
    ("- {variant: topk, k: 8}", "- {variant: topk, k: 8, rate: 0}", "saes[0].rate", "0, wanted a number above 0"),
    ("- {variant: topk, k: 8}", "- {variant: topk, k: 65}", "saes[0].k", "65, wanted at most 64, since a budget cannot be larger than the dictionary"),
    ("k: 8, latents: 32", "k: 33, latents: 32", "saes[3].k", "33, wanted at most 32, since a budget"),
    ("sweep: {k: [4, 8]}", "sweep: {k: [4, 65]}", "saes[1].sweep.k[1]", "65, wanted at most 64"),
    ("groups: [0.25, 1.0]", "groups: [0.5, 0.25]", "saes[2].groups", "[0.5, 0.25], wanted rising shares above 0 that end with 1.0"),
    ("latents: [null, 32]", "latents: [null, 65]", "read.latents[1]", "65, wanted at most 64, the size of the largest dictionary of the suite"),
    ("k: [4, 8], latents", "k: [4, 65], latents", "read.k[1]", "65, wanted at most 64"),
    ("latents: [all, 16]", "latents: [all, 65]", "saes[2].read.latents[1]", "65, wanted at most 64, the size of this entry's dictionary"),
    # empty and repeated
    ("seeds: [0, 5]", "seeds: []", "seeds", "[], wanted a list"),
    ("k: [4, 8], latents", "k: [], latents", "read.k", "[], wanted a list"),
    ("sweep: {k: [4, 8]}", "sweep: {k: []}", "saes[1].sweep.k", "[], wanted a list"),
    ("controls: [pca, untrained]", "controls: []", "controls", "[], wanted a list such as [a, b], each of one of pca, random_decoder, untrained"),
    ('{sympy: "1.14.0"}', "{}", "text.distributions", "{}, wanted a mapping"),
    ("seeds: [0, 5]", "seeds: [0, 0]", "seeds", "[0, 0], wanted every value once"),
    ("k: [4, 8], latents", "k: [4, 4], latents", "read.k", "[4, 4], wanted every value once"),
    ("controls: [pca, untrained]", "controls: [pca, pca]", "controls", "[pca, pca], wanted every value once"),
    ("batch: 100", "batch: 100, batch: 200", "train", "the key batch is repeated; it stands in line 5 too"),
    ("[explained_variance,", "[downstream_loss,", "metrics[1]", "the metric downstream_loss is listed twice; it stands in line 13 too"),
    ("k: 8, latents: 32", "k: 8", "saes[3]", "{variant: topk, k: 8} is the same SAE as saes[0] in line 8"),
    ("k: 8, latents: 32", "k: 8, latents: 64", "saes[3]", "is the same SAE as saes[0] in line 8"),
    ("sweep: {k: [4, 8]}", "sweep: {k: [4, 4]}", "saes[1]", "k: 4 is the same SAE as saes[1] in line 9"),
    ("sweep: {k: [4, 8]}", "k: 8, sweep: {k: [4, 8]}", "saes[1].sweep.k", "k cannot be swept here, since the entry gives it too"),
    ("sweep: {k: [4, 8]}", "k: 8, sweep: {read: [4, 8]}", "saes[1].sweep.read", "read cannot be swept here"),
    # limits that nothing meets
    ("only: {k: [8], select: [native]}", "only: [{k: [8]}, {k: [9]}]", "metrics[1].only[1].k[0]", "9, wanted a value of k that some SAE"),
    ("only: {k: [8], select: [native]}", "only: []", "metrics[1].only", "wanted a list"),
    ("k: [8], select: [native]", "k: [8, 9]", "metrics[1].only.k[1]", "9, wanted a value of k that some SAE of the suite is read at"),
    ("k: [8], select: [native]", "seeds: [1]", "metrics[1].only.seeds[0]", "1, wanted a value of seeds that some SAE"),
    ("k: [8], select: [native]", "latents: [all], cut: [before], k: [8], rank: [random]", "metrics[1].only.rank[0]", "random, wanted a value of rank"),
    # missing
    ("tokens: 1000, ", "", "train", "the key tokens is missing, wanted a whole number"),
    ("source: installed, ", "", "text", "the key source is missing, wanted one of files, hub, installed"),
    (', calibration: {tokens: 640}}', "}", "text", "the key calibration is missing"),
    ("- {variant: topk, k: 8}", "- {k: 8}", "saes[0]", "the key variant is missing, wanted one of batchtopk, hierarchical_topk"),
    ("- {variant: topk, k: 8}", "- {variant: topk}", "saes[0]", "the key k is missing, wanted a whole number"),
    ("k: [4, 8], latents", "latents", "read", "the key k is missing, wanted a list"),
    # not what a suite may say in YAML
    ("schema: 1", "schema: 2", "schema", "2, wanted 1, since a newer sae_bench_htopk wrote this suite: upgrade to run it"),
    ("schema: 1", "schema: 0", "schema", "0, wanted 1"),
    ("schema: 1", "schema: one", "schema", "one, wanted a whole number"),
    ("title: A suite", "title: &anchor A suite", "", "an anchor is not allowed in a suite"),
    ("batch: 100", "batch: *anchor", "", "an alias is not allowed in a suite"),
    ("batch: 100", "batch: !!int 100", "", "a tag is not allowed in a suite"),
    ("batch: 100", "<<: {batch: 100}", "train", "a merge key (<<) is not allowed in a suite"),
    ("batch: 100", "8: 100", "train", "8, wanted a key that is text"),
    ("batch: 100", "[a]: 100", "train", "[a], wanted a key that is text"),
    ("title: A suite of a test", "title: a: b", "", "mapping values are not allowed here"),
]  # fmt: skip


@pytest.mark.parametrize(("old", "new", "path", "said"), BAD, ids=[f"{new or old} at {path}" for old, new, path, _ in BAD])
def test_bad_input_names_file_line_key_value_and_what_is_wanted(write: Callable[[str], str], old: str, new: str, path: str, said: str) -> None:
    assert GOOD.count(old) >= 1
    content = GOOD.replace(old, new, 1)
    message = failure(file := write(content))
    assert f"{path}: " in message and said in message
    changed = next(number for number, (a, b) in enumerate(zip_longest(GOOD.splitlines(), content.splitlines()), 1) if a != b)
    assert message.startswith(f"{file}:{changed}: {path}")


def test_an_entry_that_the_reading_of_the_suite_leaves_nothing(write: Callable[[str], str]) -> None:
    message = failure(write(GOOD.replace("latents: [null, 32]", "latents: [2]")))
    assert "mine.yaml:8: saes[0]: no reading of a dictionary of 64 is left: k [4, 8] at latents [2]" in message


def test_a_key_that_is_missing_at_the_top(write: Callable[[str], str]) -> None:
    for line in (line for line in GOOD.splitlines(keepends=True) if not line.startswith((" ", "saes"))):
        assert f"mine.yaml:1: the key {line.partition(':')[0]} is missing, wanted " in failure(write(GOOD.replace(line, "", 1)))
    entries = GOOD[GOOD.index("saes:") : GOOD.index("\nread:")]
    assert "mine.yaml:1: the key saes is missing, wanted a list" in failure(write(GOOD.replace(entries, "")))


def test_rates_of_their_own(write: Callable[[str], str]) -> None:
    """One SAE at several rates is several; a reader of another's weights has the other's rate, and so reads the same weights."""
    entries = "- {variant: topk, k: 8, sweep: {rate: [1e-3, 2e-3]}}\n  - {variant: topk, k: 4, rate: 5e-3}\n  - {variant: pruned_vanilla, k: 4}"
    found = suite.load(write(GOOD.replace("- {variant: topk, k: 8}", entries)))
    assert [sae.rate for sae in found.saes if sae.variant == "topk" and sae.latents == 64 and sae.seed == 0] == [1e-3, 2e-3, 5e-3]
    trainings = keys.resolve(found, keys.Facts({part: part for part in ("train", "calibration", "held_out")}, "model"))
    read = {tuple(cell.variant for cell in training.cells): training for training in trainings if training.seed == 0}
    shared = read["topk", "pruned_vanilla"]
    assert shared.recipe.rate == 5e-3 and shared.label() == "topk (k 4; 64 latents; rate 0.005; seed 0)"
    assert "is the same SAE as" in failure(write(GOOD.replace("- {variant: topk, k: 8}", "- {variant: topk, k: 8, sweep: {rate: [1e-3, 1e-3]}}")))
    both = "- {variant: topk, k: 8}\n  - {variant: topk, k: 8, rate: 1e-3}"
    assert "is the same SAE as" in failure(write(GOOD.replace("- {variant: topk, k: 8}", both, 1).replace("batch: 100", "batch: 100, rate: 1e-3")))
    message = failure(write(GOOD.replace("- {variant: topk, k: 8}", entries.replace("pruned_vanilla, k: 4", "pruned_vanilla, k: 8"), 1)))
    assert "reads the weights of topk, which is trained at several rates here" in message


def test_a_running_threshold_is_read_at_its_own_k(write: Callable[[str], str]) -> None:
    """Once, on the whole dictionary, where thresholds are read at all; a metric can be limited to it."""
    found = suite.load(write(GOOD.replace("k: [8], select: [native]", "select: [ema]")))
    extra = {sae.variant: [reading for reading in sae.readings() if reading.select == "ema"] for sae in found.saes if sae.latents == 64}
    assert extra == {"topk": [], "batchtopk": [Reading(8, None, "ema")], "matryoshka": [Reading(8, None, "ema")]}
    rows_only = suite.load(write(GOOD.replace("latents: [null, 32]}", "latents: [null, 32], select: [row]}").replace(", select: [native]", "")))
    assert not any(reading.select == "ema" for sae in rows_only.saes for reading in sae.readings())


def test_free_decoder_rows(write: Callable[[str], str]) -> None:
    """A setting that is true or false is no number that may not be 0."""
    assert suite.load(write(GOOD.replace("batch: 100", "batch: 100, unit_rows: false"))).train.unit_rows is False


def test_limits_that_no_reading_meets_together(write: Callable[[str], str]) -> None:
    content = GOOD.replace("read: {latents: [all, 16]}", "read: {k: [2], latents: [16]}")  # so 16 latents are never read at k 8
    message = failure(write(content.replace("k: [8], select: [native]", "k: [8], latents: [16]")))
    assert "mine.yaml:13: metrics[1].only: {k: [8], latents: [16]} leaves the metric no reading of any SAE" in message


def test_what_is_no_suite_at_all(write: Callable[[str], str], tmp_path: Path) -> None:
    assert "an empty file, wanted a mapping" in failure(write(""))
    assert "a, wanted a mapping" in failure(write("a"))
    assert "[a, b], wanted a mapping" in failure(write("[a, b]"))
    assert "wanted a mapping" in failure(write("# nothing but a comment\n"))
    assert "not a YAML suite" in failure(write("[" * 5000)) and "not a YAML suite" in failure(write(GOOD.replace("title: A", "title: [A")))
    assert "mine.yaml:15: not a YAML suite: expected a single document" in failure(write(GOOD + "---\n" + GOOD))
    assert "wanted a YAML file of at most" in failure(write("#" * 2_000_000))
    for content in (b"\x00\x01\x02", b"\xff\xfe\x80", b"\x89PNG\r\n\x1a\n\x00"):
        (tmp_path / "picture.png").write_bytes(content)
        message = failure(str(tmp_path / "picture.png"))
        assert "picture.png" in message and "not a YAML suite" in message


def test_files_that_are_not_there(tmp_path: Path) -> None:
    known = "known: gemma2_2b, gemma2_2b_progressive, pycode, pythia_160m, quickstart"
    assert failure(str(tmp_path)).startswith(f"{tmp_path} is a folder, wanted a YAML file or the name of a suite; ")
    assert f"quickstar is no file, wanted a YAML file or the name of a suite; did you mean quickstart? {known}" == failure("quickstar")
    assert "did you mean quickstart?" in failure("suites/quikstart.yaml")
    assert "is no file" in failure("nothing/at/all.yaml") and "wanted a YAML file" in failure("")


def test_the_file_names_the_board(tmp_path: Path) -> None:
    for name in ("README.yaml", "a b.yaml", "a.b.yaml", "-a.yaml"):
        (tmp_path / name).write_text(GOOD, encoding="utf-8")
        assert f"the file is called {name.removesuffix('.yaml')}, wanted a name of letters, digits, _ and -" in failure(str(tmp_path / name))


def test_windows_line_ends_and_a_byte_order_mark(write: Callable[[str], str]) -> None:
    assert suite.load(write("\ufeff" + GOOD.replace("\n", "\r\n"))) == suite.load(write(GOOD))


# The packaged suites.


@pytest.mark.parametrize("name", suite.suite_names())
def test_packaged_suites(name: str) -> None:
    found = suite.load(name)
    assert found.name == name and found.title == suite.title_of(name)
    for sae in found.saes:
        variant = plugins.variant(sae.variant)
        if (budget := variant.budget(sae.config)) is None:
            continue
        native = Reading(budget, None, variant.native(sae.config))
        assert native in sae.readings(), "the headline of an SAE is its own budget, read whole by its own selector"
        if base := variant.trained_as(sae.config):
            config = plugins.variant(base[0]).Config(**base[1])
            assert any((other.variant, other.config) == (base[0], config) for other in found.saes)
    assert found.demonstration or found.text.held_out.tokens >= 200_000
    assert found.demonstration or set(found.controls) == {"pca", "untrained", "random_decoder"}


@pytest.mark.parametrize("name", ["quickstart", "pycode"])
def test_the_suites_that_run_anywhere_hold_every_variant_and_metric(name: str) -> None:
    found = suite.load(name)
    assert {sae.variant for sae in found.saes} == set(plugins.names("variants"))
    assert {use.name for use in found.metrics} == set(plugins.names("metrics"))


def test_the_oracles_of_the_progressive_suite_are_at_equal_relative_sparsity() -> None:
    trained = {(sae.latents, sae.config.k) for sae in suite.load("gemma2_2b_progressive").saes if sae.variant == "topk"}
    assert trained == {(latents, k * latents // 65_536) for latents in (16_384, 32_768, 65_536) for k in (64, 128, 256, 512)}


def test_every_number_of_the_reproductions_has_its_source_beside_it() -> None:
    for name in ("gemma2_2b", "gemma2_2b_progressive", "pythia_160m"):
        for line in (suite.folder() / f"{name}.yaml").read_text(encoding="utf-8").splitlines():
            value, _, source = line.partition("#")
            if any(character.isdigit() for character in value) and not value.startswith(("schema", "title")):
                assert source.strip(), f"{name}: {line}"


def test_hints_that_no_suite_can_give(write: Callable[[str], str]) -> None:
    value = Value(3, "f.yaml", 7, "saes[0].odd", "3")
    with pytest.raises(SuiteError, match=r"f.yaml:7: saes\[0\].odd: cannot be given in a suite"):
        build(list[int], value)
    assert build(int | str, value) == 3 and build(int | str, replace(value, data="a")) == "a"
    with pytest.raises(SuiteError, match="wanted a whole number or text"):
        build(int | str, replace(value, data=None))
    assert words(Count) == "a whole number of at least 1"
