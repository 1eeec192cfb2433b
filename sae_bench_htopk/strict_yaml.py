"""Reads YAML strictly, into values that know the file, line and key where they were written.

Plain scalars mean what YAML 1.2 says, not what PyYAML's 1.1 does: 3e-4 and 1e6 are numbers, only true and false are
booleans, 12:30 and 2026-11-20 are text. Repeated keys, anchors, aliases, merge keys and tags are refused.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import yaml

from sae_bench_htopk.errors import InputError

LARGEST_FILE, LONGEST_QUOTE = 2**20, 60  # bytes; characters of a value that a message repeats
PLAIN: tuple[tuple[re.Pattern[str], Callable[[str], object]], ...] = (
    (re.compile(r"~|null|"), lambda text: None),
    (re.compile(r"true|false"), lambda text: text == "true"),
    (re.compile(r"[-+]?(0|[1-9][0-9]{0,17}|[1-9][0-9]{0,2}(_[0-9]{3}){1,5})"), int),  # 010 is text: YAML 1.1 and 1.2 read it differently
    (re.compile(r"[-+]?(?=.*[.eE])((0|[1-9][0-9]*)(\.[0-9]*)?|\.[0-9]+)([eE][-+]?[0-9]+)?"), float),
)


class SuiteError(InputError):
    """A suite that cannot be read; the message says file, line, key, what was given and what is wanted."""


@dataclass(frozen=True)
class Value:
    """A value of a YAML file and where it stands; `data` is a scalar, a list of Values, or a dict of Values."""

    data: Any
    file: str
    line: int
    path: str  # such as saes[1].k; empty for the whole file
    written: str  # as it stands in the file, shortened

    def error(self, problem: str) -> SuiteError:
        """The error that this value is the cause of."""
        return SuiteError(f"{self.file}:{self.line}: {self.path + ': ' if self.path else ''}{problem}")

    def wanted(self, what: str) -> SuiteError:
        """The error that this value is given where something else is wanted."""
        return self.error(f"{self.written}, wanted {what}")

    def at(self, dotted: str) -> "Value":
        """The value under a dotted key, or the last one on the way that exists."""
        key, _, rest = dotted.partition(".")
        return self.data[key].at(rest) if isinstance(self.data, dict) and key in self.data else self


class StrictLoader(yaml.SafeLoader):
    """Refuses what lets a file say something other than what stands at the place."""

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        """Composes a node without alias, anchor or tag."""
        event: Any = self.peek_event()  # type: ignore[no-untyped-call]
        extra = "an anchor" if getattr(event, "anchor", None) else "a tag" if getattr(event, "tag", None) else None
        extra = "an alias" if isinstance(event, yaml.AliasEvent) else extra
        if extra:
            raise yaml.MarkedYAMLError(problem=f"{extra} is not allowed in a suite, write the value out", problem_mark=event.start_mark)
        return super().compose_node(parent, index)


def read(path: Path) -> Value:
    """The whole of a YAML file. Raises SuiteError if it is missing, not text, not YAML, or ambiguous."""
    try:
        if path.stat().st_size > LARGEST_FILE:
            raise SuiteError(f"{path}: {path.stat().st_size} bytes, wanted a YAML file of at most {LARGEST_FILE}")
        text = path.read_bytes().decode("utf-8-sig")
        node = yaml.compose(text, StrictLoader)
        return value_of(node, text, str(path)) if node else Value(None, str(path), 1, "", "an empty file")
    except OSError as error:
        raise SuiteError(f"{path}: could not be read: {error.strerror}") from error
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        problem = ", ".join(filter(None, (error.context, error.problem)))
        raise SuiteError(f"{path}:{line}: not a YAML suite: {problem}") from error
    except (UnicodeDecodeError, yaml.YAMLError, RecursionError) as error:
        raise SuiteError(f"{path}: not a YAML suite: {str(error).splitlines()[0]}") from error


def value_of(node: yaml.Node, text: str, file: str, path: str = "") -> Value:
    """A composed node as a Value. Raises SuiteError at a repeated key, a merge key, or a key that is no text."""
    written = " ".join(text[node.start_mark.index : node.end_mark.index].split()) or "nothing"
    written = written if len(written) <= LONGEST_QUOTE else written[: LONGEST_QUOTE - 4] + " ..."
    value = Value(None, file, node.start_mark.line + 1, path, written)
    if isinstance(node, yaml.ScalarNode):
        return replace(value, data=node.value if node.style else scalar_of(node.value))
    if isinstance(node, yaml.SequenceNode):
        return replace(value, data=[value_of(item, text, file, f"{path}[{index}]") for index, item in enumerate(node.value)])
    found: dict[str, Value] = {}
    for key_node, item in node.value:
        key = value_of(key_node, text, file, path)
        if not isinstance(key.data, str):
            raise key.wanted("a key that is text")
        if key.data == "<<":
            raise key.error("a merge key (<<) is not allowed in a suite, write the keys out")
        if key.data in found:
            raise key.error(f"the key {key.data} is repeated; it stands in line {found[key.data].line} too")
        found[key.data] = value_of(item, text, file, f"{path}.{key.data}" if path else key.data)
    return replace(value, data=found)


def scalar_of(text: str) -> object:
    """A plain (unquoted) scalar by YAML 1.2's core schema, without its spellings that 1.1 reads differently."""
    return next((convert(text) for pattern, convert in PLAIN if pattern.fullmatch(text)), text)
