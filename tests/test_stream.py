"""Windows, blocks and units of the stream, on a model whose activations are known."""

import threading
import time
from collections.abc import Iterator

import numpy as np
import pytest
import torch
from torch import Tensor

from sae_bench_htopk.stream import Blocks, Stream, ahead, measure
from sae_bench_htopk.text import Document, TextError
from sae_bench_htopk.windows import Cut, collate, take

CONTEXT, BOS, D = 8, 99, 6


class Known:
    """A model whose activation is a fixed vector per token; token 7 has a massive one, and BOS an absurd one."""

    def __init__(self) -> None:
        self.table = torch.randn(100, D, generator=torch.Generator().manual_seed(0)) + 2.0
        self.table[7] *= 1000
        self.table[BOS] = 1e9
        self.seen = 0

    def activations(self, tokens: Tensor) -> Tensor:
        """Looks tokens up."""
        self.seen += len(tokens)
        return self.table[tokens]


def encode(text: str) -> tuple[np.ndarray, np.ndarray]:
    """One token per character."""
    ids = np.array([ord(letter) % 90 for letter in text], dtype=np.int64)
    return ids, np.stack((np.arange(len(ids)), np.arange(len(ids)) + 1), axis=1)


def windows(count: int = 300, length: int = 40) -> Cut:
    """Windows of random texts."""
    draw = np.random.default_rng(0)
    return Cut((Document(str(n), "".join(map(chr, draw.integers(90, 180, length))), "") for n in range(count)), encode, CONTEXT)


def stream(seed: int = 0, block: int = 1024, tokens: int = 5000) -> Stream:
    """A stream over these windows."""
    return Stream(Known(), windows(), CONTEXT, BOS, block, seed, tokens)


def test_windows_hold_every_token_once_in_place() -> None:
    """Positions and documents of all windows together cover each document exactly."""
    texts = ["a" * 20, "b" * 7, "c" * 15]
    found = list(Cut((Document(str(n), text, "") for n, text in enumerate(texts)), encode, CONTEXT))
    batch = collate(found, CONTEXT, BOS)
    assert bool((batch.tokens[:, 0] == BOS).all()) and not bool(batch.real[:, 0].any())
    places = sorted(zip(batch.document[batch.real].tolist(), batch.position[batch.real].tolist(), strict=True))
    assert places == [(n, place) for n, text in enumerate(texts) for place in range(len(text))]
    assert torch.equal(batch.span[batch.real][:, 0], batch.position[batch.real])


def test_documents_take_turns() -> None:
    """The first windows come from different documents."""
    assert len({window.document for window in take(windows(), 30 * (CONTEXT - 1))}) == 30


def test_units_are_those_of_the_rows_without_massive_ones() -> None:
    """Mean squared norm 1, mean and covariance as numpy gives them, and the limit between the norms."""
    rows = torch.randn(5000, D, generator=torch.Generator().manual_seed(1)) + 3.0
    massive = torch.full((20, D), 500.0)
    found = measure(torch.cat((rows, massive)))
    assert found.is_massive(massive).all() and not found.is_massive(rows).any()
    scaled = (rows * found.scale).double().numpy()
    assert (scaled**2).sum(1).mean() == pytest.approx(1, rel=1e-5)
    np.testing.assert_allclose(found.statistics.mean, scaled.mean(0), rtol=1e-4)
    np.testing.assert_allclose(found.statistics.covariance, np.cov(scaled.T, bias=True), rtol=1e-3, atol=1e-6)
    assert found.statistics.total_variance == pytest.approx(scaled.var(0).sum(), rel=1e-4)


def test_blocks_are_a_function_of_seed_and_number() -> None:
    """Twice the same stream is twice the same bits; another seed gives the same rows of each block in another order."""
    one, two, other = ([block.clone() for block in stream(seed).blocks()] for seed in (0, 0, 1))
    assert len(one) > 3 and all(torch.equal(a, b) for a, b in zip(one, two, strict=True))
    for a, b in zip(one, other, strict=True):
        assert not torch.equal(a, b)
        torch.testing.assert_close(a.sum(1).sort().values, b.sum(1).sort().values)


def test_massive_rows_and_bos_never_reach_a_batch() -> None:
    """No row has the norm of token 7 or of BOS; they are counted; every batch is whole."""
    it = stream()
    rows = list(it.batches(64))
    assert all(len(batch) == 64 for batch in rows)
    assert float(torch.cat(rows).norm(dim=1).max()) < 10
    assert it.massive > 0 and it.rows > sum(map(len, rows))


def test_blocks_of_short_documents_are_as_long_as_others() -> None:
    """Windows of documents that fill only a quarter of them still make whole blocks, so no more is dropped than a batch from each."""
    it = Stream(Known(), windows(count=3000, length=2), CONTEXT, BOS, 1024, 0, 5000)
    lengths = [len(block) for block in it.blocks()]
    assert sum(lengths) + it.massive == it.rows == 6000
    assert all(length + it.massive >= 1024 for length in lengths[:-1]) and len(lengths) == 6
    assert sum(map(len, Stream(Known(), windows(count=3000, length=2), CONTEXT, BOS, 1024, 0, 5000).batches(512))) >= 6000 - it.massive - 512 * len(lengths)


def test_an_empty_text_is_refused() -> None:
    """No windows, no stream."""
    with pytest.raises(TextError, match="no tokens"):
        Stream(Known(), Cut((), encode, CONTEXT), CONTEXT, BOS, 1024, 0, 100)


@pytest.mark.parametrize("held", [Blocks("cpu"), Blocks("cpu", pinned=True), Blocks("cpu", ahead=True), Blocks("cpu", pinned=True, ahead=True)])
def test_where_blocks_are_held_and_when_they_are_made_moves_nothing(held: Blocks) -> None:
    """The same batches, units and counts, and after each batch the same place."""
    plain = stream()
    other = Stream(Known(), windows(), CONTEXT, BOS, 1024, 0, 5000, None, held)
    assert other.units.scale == plain.units.scale and torch.equal(other.units.statistics.covariance, plain.units.statistics.covariance)
    count = 0
    for one, two in zip(plain.batches(128), other.batches(128), strict=True):
        assert torch.equal(one, two)
        assert (plain.begun.block, plain.begun.taken, plain.begun.rows) == (other.begun.block, other.begun.taken, other.begun.rows)
        assert plain.begun.text.given == other.begun.text.given and len(plain.begun.text.open) == len(other.begun.text.open)
        count += 1
    assert count > 30 and (plain.rows, plain.massive) == (other.rows, other.massive)


def test_the_next_is_made_while_one_is_used_and_no_more() -> None:
    """One ahead, in the order of the items; an error comes where its item would have come; closing ends the thread."""
    made: list[int] = []
    begun = threading.Event()

    def items() -> Iterator[int]:
        for number in range(5):
            made.append(number)
            begun.set()
            if number == 3:
                raise TextError("no more")
            yield number

    found = ahead(items())
    taken = [next(found)]
    for wanted in (1, 2):
        while len(made) < wanted + 1:
            begun.wait(1)
        time.sleep(0.02)
        assert made == list(range(wanted + 1))
        taken.append(next(found))
    with pytest.raises(TextError, match="no more"):
        next(found)
    assert taken == [0, 1, 2] and made == [0, 1, 2, 3]
    some = ahead(iter(range(10)))
    next(some)
    some.close()
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("ahead")]
