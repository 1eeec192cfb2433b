"""An entry's own readings as a list of products, and limits that count latents in use: solved by hand, and bad input that says where."""

from collections.abc import Callable
from pathlib import Path

import pytest

from sae_bench_htopk import suite
from sae_bench_htopk.contract import Reading
from sae_bench_htopk.suite import Only, Read
from tests.test_suite import GOOD, failure

OWN = "read: {latents: [all, 16]}"


@pytest.fixture
def write(tmp_path: Path) -> Callable[[str], str]:
    """Writes the good suite with the matryoshka entry's readings replaced, and gives the path of its file."""

    def to_file(own: str) -> str:
        assert GOOD.count(OWN) == 1
        (path := tmp_path / "mine.yaml").write_text(GOOD.replace(OWN, own), encoding="utf-8")
        return str(path)

    return to_file


def test_a_list_of_products_is_their_union(write: Callable[[str], str]) -> None:
    """Each takes what it does not say from the suite; a reading that two of them hold is read once."""
    path = write(
        "read: [{latents: [all], select: [row]}, {k: [8], latents: [all, 16], select: [row], cut: [before, after]}, {k: [2], latents: [16], select: [row]}]"
    )
    sae = next(sae for sae in suite.load(path).saes if sae.variant == "matryoshka")
    assert sae.read[0] == Read((4, 8), (None,), ("row",)) and len(sae.read) == 3
    assert sae.readings() == (Reading(4), Reading(8), Reading(8, 16), Reading(8, 16, cut="after"), Reading(2, 16))


def test_a_running_threshold_is_read_if_any_product_reads_by_threshold(write: Callable[[str], str]) -> None:
    path = write("read: [{select: [row]}, {k: [4], latents: [16], select: [threshold]}]")
    sae = next(sae for sae in suite.load(path).saes if sae.variant == "matryoshka")
    assert sae.readings()[-1] == Reading(8, select="ema")


@pytest.mark.parametrize(
    ("own", "path", "said"),
    [
        ("read: []", "saes[2].read", "[], wanted a list"),
        ("read: 16", "saes[2].read", "16, wanted a mapping with keys of k, latents, select, cut, rank, or a list of such"),
        ("read: [{k: [4]}, 16]", "saes[2].read[1]", "16, wanted a mapping with keys of k, latents, select, cut, rank"),
        ("read: [{k: [4]}, {latent: [16]}]", "saes[2].read[1].latent", "unknown key ([16] given); did you mean latents?"),
        ("read: [{k: [4]}, {k: [8, 65]}]", "saes[2].read[1].k[1]", "65, wanted at most 64, the size of this entry's dictionary"),
        ("read: [{k: [4]}, {latents: [all, 65]}]", "saes[2].read[1].latents[1]", "65, wanted at most 64"),
        ("read: [{k: [4]}, {k: [8, 8]}]", "saes[2].read[1].k", "[8, 8], wanted every value once"),
        ("read: [{k: [4]}, {cut: [later]}]", "saes[2].read[1].cut[0]", "later is not known here; "),
        ("read: [{k: [4]}, {latents: [2]}]", "saes[2].read[1]", "no reading of a dictionary of 64 is left: k [4, 8] at latents [2]"),
    ],
)  # fmt: skip
def test_a_bad_product_says_which_one_it_is(write: Callable[[str], str], own: str, path: str, said: str) -> None:
    message = failure(file := write(own))
    assert message.startswith(f"{file}:10: {path}: ") and said in message


def test_a_limit_to_some_latents_holds_for_those_cut_down_to_them_and_those_trained_so() -> None:
    """Read whole, an SAE of 16 latents uses as many as one of 64 that is cut down to 16; `all` is whatever is read whole."""
    only, whole = Only(latents=(16,)), Only(latents=(None,))
    assert only.allows(Reading(4, 16), "row", 0, 64) and only.allows(Reading(4), "row", 0, 16) and not only.allows(Reading(4), "row", 0, 64)
    assert whole.allows(Reading(4), "row", 0, 16) and whole.allows(Reading(4), "row", 0, 64) and not whole.allows(Reading(4, 16), "row", 0, 64)


def test_the_published_board_reads_every_size_of_the_dictionary_axis() -> None:
    """Nested and pruned at N/16 to N, by both cuts where trained at a k; the costly columns at an L0 of 32 and at its share of the latents, but for probing."""
    found = suite.load("pycode")
    share = {128: 2, 256: 4, 512: 8, 1024: 16}
    trained = {(sae.latents, sae.config.k) for sae in found.saes if sae.variant == "topk"}
    assert trained >= {(size, k) for size, own in share.items() for k in (own, 32)}
    costly = [use.only for use in found.metrics if use.only and use.name in ("downstream_loss", "representational_similarity")]
    for sae in (sae for sae in found.saes if sae.variant in ("hierarchical_topk", "matryoshka", "pruned_vanilla")):
        variant = suite.plugins.variant(sae.variant)
        native = variant.native(sae.config)
        for size, k in ((size, k) for size, own in share.items() for k in (own, 32)):
            before, after = (Reading(k, size, native, cut) for cut in ("before", "after"))
            assert before in sae.readings() and all(only.allows(before, native, sae.seed, sae.latents) for only in costly)
            assert (after in sae.readings()) == (variant.budget(sae.config) is not None)
            assert all(only.allows(after, native, 0, sae.latents) == (size == 512) for only in costly)
