"""Labels of hand-written snippets: the exact pieces of text that each label must cover."""

import warnings

import numpy as np
import pytest

from sae_bench_htopk.python_labels import LABELS, python_labels, token_labels

CLASS = '''"""Module."""
import os, sys  # why
from a import (b,
               c)

@decorate(1)
class Name(Base, metaclass=M):
    """Doc
    string."""

    async def méthod(self, x: int = 3) -> "T":
        "short"
        return self.call(x, *[len(y) for y in (1, 2)])
after = 'é', print
'''


def pieces(text: str, label: str) -> list[str]:
    """The runs of characters that carry the label."""
    labels = python_labels(text)
    assert labels is not None and labels.shape == (len(LABELS), len(text))
    edges = np.flatnonzero(np.diff(np.pad(labels[LABELS.index(label)].astype(int), 1)))
    return [text[start:end] for start, end in edges.reshape(-1, 2)]


@pytest.mark.parametrize(
    ("label", "wanted"),
    [
        ("string", ['"""Module."""', '"""Doc\n    string."""', '"T"', '"short"', "'é'"]),
        ("docstring", ['"""Module."""', '"""Doc\n    string."""', '"short"']),
        ("comment", ["# why"]),
        ("keyword", ["import", "from", "import", "class", "async", "def", "return", "for", "in"]),
        ("name_defined", ["Name", "méthod"]),
        ("name_called", ["decorate", "call", "len"]),
        ("argument", ["1", "x, *[len(y) for y in (1, 2)]"]),
        ("inside_class", [CLASS[CLASS.index("class") : CLASS.index("\nafter")]]),
        ("inside_import", ["import os, sys", "from a import (b,\n               c)"]),
    ],
)
def test_every_label_on_one_file(label: str, wanted: list[str]) -> None:
    assert pieces(CLASS, label) == wanted


@pytest.mark.parametrize(
    "literal",
    [
        "f'{a}'",
        "rf'{a!r:>{width}} {{no}} é'",
        "f'''a\n{b(1)}\n  {c}'''",
        "f'{f\"{call(x)}\"}'",
        "b'raw'",
        "f'{x:{y}}' ",
    ],
)
def test_an_f_string_is_one_string_from_quote_to_quote_and_nothing_else(literal: str) -> None:
    text = f"é = g({literal.strip()}, h) if x else 1  # end"
    assert pieces(text, "string") == [literal.strip()]
    assert pieces(text, "name_called") == ["g"]
    assert pieces(text, "argument") == [f"{literal.strip()}, h"]
    assert pieces(text, "keyword") == ["if", "else"]
    assert pieces(text, "comment") == ["# end"]


def test_parts_of_a_joined_literal_are_strings_and_what_stands_between_is_not() -> None:
    text = "def f():\n    ('one'  # not me\n     'two')\nx = ('é' f'{y}'\n  'z')\n"
    assert pieces(text, "string") == ["'one'", "'two'", "'é'", "f'{y}'", "'z'"]
    assert pieces(text, "docstring") == ["'one'", "'two'"]


def test_what_looks_like_a_call_and_is_none() -> None:
    text = "def f(a): pass\nclass C(B): pass\nmatch (x):\n    case P(y=1): print (x)\n(g)(1)\nh[T](2)\ni()(3)\nif (z): ...\nexcept_ = not (z)\n"
    assert pieces(text, "name_called") == ["print", "i"]
    assert pieces(text, "argument") == ["x", "1", "2", "3"]


def test_names_before_a_broken_line_and_wide_characters_are_found() -> None:
    text = "𐐀 = 'ünï', f(  # né\n  '😀')\nß.ñ \\\n  (é)\n"
    assert pieces(text, "name_called") == ["f", "ñ"]
    assert pieces(text, "argument") == ["  # né\n  '😀'", "é"]
    assert pieces(text, "comment") == ["# né"]


@pytest.mark.parametrize("ending", ["\r\n", "\r", "\n"])
def test_line_ends_keep_every_character_in_place(ending: str) -> None:
    text = ending.join(["class A:", "\t'''d", "\te'''", "\tx = f(1)  # c", "\x0c", "import é", "y = g()"])
    assert pieces(text, "docstring") == [ending.join(["'''d", "\te'''"])]
    assert pieces(text, "name_called") == ["f", "g"]
    assert pieces(text, "comment") == ["# c"]
    assert pieces(text, "inside_import") == ["import é"]
    assert pieces(text, "inside_class")[0].endswith("f(1)")


def test_a_byte_order_mark_and_a_form_feed_shift_nothing() -> None:
    assert pieces("\ufeff'doc'\n\x0cdef f(): g()", "docstring") == ["'doc'"]
    assert pieces("\ufeff'doc'\n\x0cdef f(): g()", "name_called") == ["g"]


@pytest.mark.parametrize("text", ["", "print 'two'", "def f(:", "x = 'a\n", "a\0b", "It was a dark and stormy night.", "(" * 5000, "if x:\ny", "\ud800 = 1"])
def test_text_that_is_no_python_has_no_labels(text: str) -> None:
    assert python_labels(text) is None
    assert token_labels(text, np.array([[0, 1]])) is None


def test_warnings_of_other_peoples_source_are_silent() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert pieces("x = '\\d' is 3\n", "string") == ["'\\d'"]


def test_a_token_has_the_labels_of_its_first_visible_character() -> None:
    text = "x  = f( 'a b' )\n"
    spans = np.array([[text.index(part), text.index(part) + len(part)] for part in ["x", " f", "( '", " 'a", " b", "' )", " )", "  ", "\n"]])
    labels = token_labels(text, spans)
    assert labels is not None and labels.shape == (9, len(LABELS))
    assert labels[:, LABELS.index("string")].tolist() == [False, False, False, True, True, True, False, False, False]
    assert labels[:, LABELS.index("name_called")].tolist() == [False, True, *[False] * 7]
    assert labels[:, LABELS.index("argument")].tolist() == [False, False, False, True, True, True, False, False, False]
