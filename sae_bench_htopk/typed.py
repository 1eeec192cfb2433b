"""Builds frozen dataclasses from the values of a strictly read YAML file, by their type hints alone.

Known are int, float, str, bool, None, unions, Literal, tuple, Mapping[str, ...] and further dataclasses; Annotated adds a
Rule, a Word or Names. A class with `from_value` says itself how it is read.
"""

import dataclasses
import math
from collections.abc import Callable, Iterable, Mapping
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, NamedTuple, TypeVar, Union, get_args, get_origin, get_type_hints

from sae_bench_htopk.plugins import suggest
from sae_bench_htopk.strict_yaml import SuiteError, Value

Record = TypeVar("Record")
WORDS = {int: "a whole number", float: "a number", str: "text (in quotes if it looks like a number)", bool: "true or false", NoneType: "null"}


class Rule(NamedTuple):
    """Stands in Annotated[type, Rule(...)]: what a given value must hold besides its type, and how to say so."""

    holds: Callable[[Any], bool]
    wanted: str


class Word(NamedTuple):
    """Stands in Annotated[type, Word(...)]: a word that may be written in place of a value."""

    word: str
    means: Any


class Names(NamedTuple):
    """Stands in Annotated[str, Names(...)]: the names that exist when the file is read."""

    known: Callable[[], Iterable[str]]


def build(hint: Any, value: Value) -> Any:
    """The value as the type that the hint names. Raises SuiteError if it is something else, or an empty list or mapping."""
    if hint is Value:
        return value
    if hasattr(hint, "from_value"):
        return hint.from_value(value)
    if isinstance(hint, type) and dataclasses.is_dataclass(hint):
        return record(hint, value)
    origin, parts = get_origin(hint), get_args(hint)
    if origin is Annotated:
        return ruled(parts[0], parts[1:], value)
    if origin in (Union, UnionType):
        return either(parts, value)
    if origin is Literal:
        return choice(value, parts)
    if origin is tuple:
        return several(hint, value)
    if origin is Mapping:
        if not isinstance(value.data, dict) or not value.data:
            raise value.wanted(words(hint))
        return {key: build(parts[1], item) for key, item in value.data.items()}
    return scalar(hint, value)


def record(kind: Callable[..., Record], value: Value, beside: Iterable[str] = (), **made: Any) -> Record:
    """A frozen dataclass from a mapping; keys in `beside` belong to someone else, and fields in `made` are not the file's to give."""
    fields: list[dataclasses.Field[Any]] = [field for field in dataclasses.fields(kind) if field.init and field.name not in made]  # type: ignore[arg-type]
    known = [*(field.name for field in fields), *beside]
    if not isinstance(value.data, dict):
        raise value.wanted(f"a mapping with keys of {', '.join(sorted(known))}")
    for key, item in value.data.items():
        if key not in known:
            raise item.error(f"unknown key ({item.written} given); {suggest(key, known)}")
    hints = get_type_hints(kind, include_extras=True)
    for field in fields:
        if field.name not in value.data and field.default is field.default_factory is dataclasses.MISSING:
            raise value.error(f"the key {field.name} is missing, wanted {words(hints[field.name])}")
    given = {field.name: build(hints[field.name], value.data[field.name]) for field in fields if field.name in value.data}
    try:
        return kind(**given, **made)
    except ValueError as error:  # a dataclass's own check says "field: value, wanted ..."
        field_name, _, problem = str(error).partition(": ")
        culprit = value.at(field_name)
        raise (value.error(str(error)) if culprit is value else culprit.error(problem)) from error


def required(value: Value, key: str, hint: Any) -> Any:
    """The value under one key, for a mapping whose other keys depend on it. Raises SuiteError if it is not there."""
    if not isinstance(value.data, dict):
        raise value.wanted(f"a mapping with the key {key}")
    if key not in value.data:
        raise value.error(f"the key {key} is missing, wanted {words(hint)}")
    return build(hint, value.data[key])


def ruled(hint: Any, rules: Iterable[Any], value: Value) -> Any:
    """An annotated type: its words first, then its type, then its names and rules."""
    for rule in rules:
        if isinstance(rule, Word) and value.data == rule.word:
            return rule.means
    built = build(hint, value)
    for rule in rules:
        if isinstance(rule, Names):
            choice(value, rule.known())
    for rule in rules:
        if isinstance(rule, Rule) and not rule.holds(built):
            raise value.wanted(rule.wanted)
    return built


def either(parts: tuple[Any, ...], value: Value) -> Any:
    """A union: null if it may be, else the first member that fits; the error of the only other member is its own."""
    if value.data is None and NoneType in parts:
        return None
    members = [part for part in parts if part is not NoneType]
    for member in members:
        try:
            return build(member, value)
        except SuiteError:
            if len(members) == 1:
                raise
    raise value.wanted(" or ".join(map(words, members)))


def choice(value: Value, known: Iterable[Any]) -> Any:
    """One of the known values. Raises SuiteError with the nearest."""
    for one in (known := tuple(known)):
        if type(value.data) is type(one) and value.data == one:
            return one
    raise value.error(f"{value.written} is not known here; {suggest(str(value.data), map(str, known))}")


def several(hint: Any, value: Value) -> tuple[Any, ...]:
    """A list that is not empty, of one type or of one type per place."""
    parts = get_args(hint)
    if not isinstance(value.data, list) or not value.data:
        raise value.wanted(words(hint))
    if parts[-1] is Ellipsis:
        return tuple(build(parts[0], item) for item in value.data)
    if len(parts) != len(value.data):
        raise value.wanted(words(hint))
    return tuple(build(part, item) for part, item in zip(parts, value.data, strict=True))


def scalar(hint: Any, value: Value) -> Any:
    """A number, text, true or false; 1e6 is a whole number, and no number is infinite."""
    if hint not in WORDS:
        raise value.error(f"cannot be given in a suite, since its type is {hint}")
    data = value.data
    if hint is int and type(data) is float and data.is_integer():
        data = int(data)
    if hint is float and type(data) is int:
        data = float(data)
    if type(data) is not hint or data == "" or (hint is float and not math.isfinite(data)):
        raise value.wanted(WORDS[hint])
    return data


def words(hint: Any) -> str:
    """What a type wants, for a message."""
    origin, parts = get_origin(hint), get_args(hint)
    if origin is Annotated and parts[0] in WORDS:
        named = (f"one of {', '.join(sorted(rule.known()))}" for rule in parts[1:] if isinstance(rule, Names))
        return next((rule.wanted for rule in parts[1:] if isinstance(rule, Rule)), next(named, WORDS[parts[0]]))
    if origin is Annotated:
        return words(parts[0])
    if origin is Literal:
        return f"one of {', '.join(map(str, parts))}"
    if origin in (Union, UnionType):
        return " or ".join(map(words, parts))
    if origin is tuple:
        return f"a list such as [a, b], each of {words(parts[0])}" if parts[-1] is Ellipsis else f"a list of {len(parts)}, each of {words(parts[0])}"
    return WORDS.get(hint, "a list of them" if hint is Value else "a mapping that is not empty")
