"""Exact syntax labels of Python source: which characters are a string, a comment, a called name; told by Python's own tokenizer and parser."""

import ast
import io
import keyword
import tokenize
import warnings
from collections.abc import Iterator
from functools import lru_cache
from itertools import pairwise
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Int

from sae_bench_htopk.labels import Label

WORDS = ("if", "return", "def", "import", "for", "in", "not", "None")  # keywords that are labels of their own: the most common ones
CONTEXT = (
    Label("docstring", "in the string that opens a module, class or function; asked in strings alone", within="string"),
    Label("name_defined", "the name after def or class; asked of names alone", within="name"),
    Label("name_called", "the name directly before the parenthesis of a call; of a.b.c(), c; asked of names alone", within="name"),
    Label("argument", "between the parentheses of a call"),
    Label("inside_class", "in a class statement, from the word class to the end of its body"),
    Label("inside_import", "in an import statement"),
)
TOLD = (  # labels that the token itself gives away, more or less
    Label("string", "in a string literal, its prefix and quotes, whatever stands in an f-string's braces; docstrings too", False),
    Label("comment", "from # to the end of the line", False),
    Label("keyword", "a reserved word of Python (True, False and None too; not match, case, type)", False),
    Label("name", "a name: of a variable, function, class, module, attribute or argument", False),
    *(Label(f"keyword_{word}", f"the keyword {word}; asked of keywords alone", False, "keyword") for word in WORDS),
)
LABELS = tuple(label.name for label in CONTEXT + TOLD)
OPENS, CLOSES = {"FSTRING_START", "TSTRING_START"}, {"FSTRING_END", "TSTRING_END"}
TEMPLATES = {"JoinedStr", "TemplateStr"}
Spans = dict[str, list[tuple[int, int]]]


class Token(NamedTuple):
    """A token and where it begins and ends in the text, in characters."""

    text: str
    start: int
    end: int


class Lines:
    """Turns (line, column), as the tokenizer and the parser give them, into a character of the whole text."""

    def __init__(self, source: str) -> None:
        self.lines = source.split("\n")
        self.starts = np.cumsum([0, *(len(line) + 1 for line in self.lines)]).tolist()

    def by_character(self, line: int, column: int) -> int:
        """Columns in characters, as tokenize counts."""
        return int(self.starts[line - 1]) + column

    def by_byte(self, line: int, column: int) -> int:
        """Columns in UTF-8 bytes, as ast counts."""
        text = self.lines[line - 1]
        return int(self.starts[line - 1]) + (column if text.isascii() else len(text.encode()[:column].decode()))

    def span(self, node: ast.expr | ast.stmt) -> tuple[int, int]:
        """The first and last+1 character of a syntax node."""
        return self.by_byte(node.lineno, node.col_offset), self.by_byte(node.end_lineno or node.lineno, node.end_col_offset or 0)


def unix_lines(text: str) -> tuple[str, Int[np.ndarray, " characters"]]:
    """The text with every line end as one newline, as the parser reads it, and for each character of `text` its place there."""
    source = text.replace("\r\n", "\n").replace("\r", "\n")
    second = np.zeros(len(text), dtype=bool)  # a newline that belongs to the carriage return before it
    start = text.find("\r\n")
    while start >= 0:
        second[start + 1] = True
        start = text.find("\r\n", start + 2)
    return ("\n" + source[1:] if source.startswith("\ufeff") else source), np.cumsum(~second) - 1


def tokens_of(source: str, lines: Lines) -> tuple[list[Token], Spans]:
    """Names, numbers, operators and strings in order, and the spans of strings and comments.

    An f-string is one string here, as for tokenize before Python 3.12, whatever is nested in it.
    """
    code: list[Token] = []
    spans: Spans = {"string": [], "comment": []}
    opened: list[int] = []
    for kind, _, first, last, _ in tokenize.generate_tokens(io.StringIO(source).readline):
        start, end, name = lines.by_character(*first), lines.by_character(*last), tokenize.tok_name[kind]
        if name in OPENS:
            opened.append(start)
        elif name in CLOSES:
            start, name = opened.pop(), "STRING"
        if opened:
            continue
        if name == "COMMENT":
            spans["comment"].append((start, end))
        elif name in {"NAME", "NUMBER", "OP", "STRING"}:
            code.append(Token(source[start:end], start, end))
        if name == "STRING":
            spans["string"].append((start, end))
    return code, spans


def nodes_of(tree: ast.AST) -> Iterator[ast.AST]:
    """Every node, but none inside an f-string: before Python 3.12 their positions are wrong."""
    waiting = [tree]
    while waiting:
        yield (node := waiting.pop())
        if type(node).__name__ not in TEMPLATES:
            waiting.extend(ast.iter_child_nodes(node))


def parentheses(code: list[Token]) -> dict[int, int]:
    """Where each closing bracket's opening one stands."""
    waiting: list[int] = []
    pairs = {}
    for token in code:
        if token.text in {"(", "[", "{"}:
            waiting.append(token.start)
        elif token.text in {")", "]", "}"}:
            pairs[token.start] = waiting.pop()
    return pairs


def syntax_spans(tree: ast.AST, code: list[Token], lines: Lines) -> Spans:
    """The spans that need the parser: docstrings, classes, imports, calls."""
    spans: Spans = {name: [] for name in ("docstring", "inside_class", "inside_import", "argument", "name_called")}
    opening, called = parentheses(code), set()
    for node in nodes_of(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) and node.body:
            first = node.body[0]
            if isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant) and isinstance(first.value.value, str):
                spans["docstring"].append(lines.span(first.value))
        if isinstance(node, ast.ClassDef):
            spans["inside_class"].append(lines.span(node))
        elif isinstance(node, ast.Import | ast.ImportFrom):
            spans["inside_import"].append(lines.span(node))
        elif isinstance(node, ast.Call):
            close = lines.span(node)[1] - 1
            spans["argument"].append((opening[close] + 1, close))
            if isinstance(node.func, ast.Name | ast.Attribute):
                called.add(lines.span(node.func)[1])
    spans["name_called"] = [(token.start, token.end) for token, after in pairwise(code) if token.end in called and after.text == "("]
    return spans


def word_spans(code: list[Token]) -> Spans:
    """The spans that single words show: keywords, all and each, names, and those after def and class."""
    words = [token for token in code if keyword.iskeyword(token.text)]
    defined = [(token.start, token.end) for before, token in pairwise(code) if before.text in {"def", "class"}]
    names = [(token.start, token.end) for token in code if token.text.isidentifier() and not keyword.iskeyword(token.text)]
    each = {f"keyword_{word}": [(token.start, token.end) for token in words if token.text == word] for word in WORDS}
    return {"keyword": [(token.start, token.end) for token in words], "name_defined": defined, "name": names, **each}


@lru_cache(maxsize=4096)
def python_labels(text: str) -> Bool[np.ndarray, "labels characters"] | None:
    """One row for each name in LABELS, over the characters of `text`; None if this Python cannot parse it, or it is empty. Read-only."""
    try:
        source, place = unix_lines(text)
        lines = Lines(source)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # source of others: an invalid escape in it is not our user's business
            tree = ast.parse(source)
        code, found = tokens_of(source, lines)
        found |= word_spans(code) | syntax_spans(tree, code, lines)
    except (SyntaxError, ValueError, RecursionError, MemoryError, tokenize.TokenError):
        return None
    if not text:
        return None
    labels = np.zeros((len(LABELS), len(source)), dtype=bool)
    for row, name in enumerate(LABELS):
        for start, end in found[name]:
            labels[row, start:end] = True
    labels[LABELS.index("docstring")] &= labels[LABELS.index("string")]  # between the parts of 'a' 'b' a comment may stand
    labels = labels[:, place]
    labels.flags.writeable = False
    return labels


def token_labels(text: str, span: Int[np.ndarray, "tokens 2"]) -> Bool[np.ndarray, "tokens labels"] | None:
    """The labels of each token: those of its first character that is no white space, or of its first if all are.

    `span` holds each token's first and last+1 character in `text`. None if Python cannot parse the text.
    """
    labels = python_labels(text)
    if labels is None:
        return None
    visible = ~np.fromiter(map(str.isspace, text), bool, len(text))
    place = np.where(visible, np.arange(len(text)), len(text))
    following = np.minimum.accumulate(place[::-1])[::-1]
    start = np.minimum(span[:, 0], len(text) - 1)
    first = np.where(following[start] < span[:, 1], following[start], start)
    return np.ascontiguousarray(labels[:, first].T)


class PythonLabels:
    """The exact syntax of documents that are Python source; nothing of others."""

    labels = CONTEXT + TOLD
    whole = False

    def of(self, document: int, text: str, span: Int[np.ndarray, "tokens 2"]) -> Bool[np.ndarray, "tokens labels"] | None:
        """By the text alone; None if Python cannot parse it."""
        return token_labels(text, span)
