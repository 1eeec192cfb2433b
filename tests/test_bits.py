"""Tests of bits per character; the oracle tells one token at a time, from the very tokens that the windows say."""

import math

import numpy as np
import pytest
import torch
from transformers import Gemma2Config, Gemma2ForCausalLM

from sae_bench_htopk.bits import bits, compare, five_gram_bits
from sae_bench_htopk.text import Document

CONTEXT, VOCABULARY = 12, 40


@pytest.fixture(scope="module")
def model() -> Gemma2ForCausalLM:
    torch.manual_seed(0)
    shape = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 8}
    return Gemma2ForCausalLM(Gemma2Config(vocab_size=VOCABULARY, **shape, sliding_window=4, pad_token_id=0, bos_token_id=2, attn_implementation="eager")).eval()


def told_one_by_one(model: Gemma2ForCausalLM, tokens: list[int], fresh: int) -> float:
    total, width = 0.0, CONTEXT - 1
    for place, token in enumerate(tokens):
        moves = max(0, -(-(place + 1 - width) // fresh))
        seen = [2, *tokens[moves * fresh : place]]
        with torch.no_grad():
            total -= model(input_ids=torch.tensor([seen])).logits[0, -1].log_softmax(0)[token].item()
    return total / math.log(2)


@pytest.mark.parametrize("fresh", [1, 3, CONTEXT - 1])
@pytest.mark.parametrize("length", [1, CONTEXT - 1, CONTEXT, 50])
def test_every_token_is_told_once_from_the_tokens_of_its_window(model: Gemma2ForCausalLM, fresh: int, length: int) -> None:
    tokens = np.random.default_rng(length).integers(3, VOCABULARY, length)
    assert bits(model, tokens, CONTEXT, fresh) == pytest.approx(told_one_by_one(model, tokens.tolist(), fresh), rel=1e-5)


def test_an_empty_document_costs_nothing(model: Gemma2ForCausalLM) -> None:
    assert bits(model, np.array([], dtype=np.int32), CONTEXT, 3) == 0


def test_five_grams_by_hand() -> None:
    """Trained on "3 4": 1/2 of the mass of each order goes to tokens seen after the history, the rest to the order below."""
    uniform, unigram = 1 / 10, (1 + 2 / 10) / (2 + 2)  # of 3 or 4: seen once of two tokens, two kinds
    bigram = (1 + 1 * unigram) / (1 + 1)  # of 4 after 3
    (found,) = five_gram_bits([np.array([3, 4])], [np.array([3, 4])], 10)
    assert found == pytest.approx(-math.log2(unigram) - math.log2(bigram))
    (unseen,) = five_gram_bits([np.array([3, 4])], [np.array([7])], 10)
    assert unseen == pytest.approx(-math.log2(2 * uniform / 4))


def test_rows_are_weighted_by_their_characters(model: Gemma2ForCausalLM) -> None:
    documents = [Document("1", "x" * 30, "a"), Document("2", "y" * 10, "b")]
    encoded = [np.full(30, 5), np.full(10, 6)]
    one, other, both = compare(model, encoded, documents, encoded, VOCABULARY, CONTEXT)
    assert [row["distribution"] for row in (one, other, both)] == ["a", "b", "all"]
    for column in ("model", "side by side", "5-gram"):
        assert both[column] == pytest.approx((30 * float(one[column]) + 10 * float(other[column])) / 40)
