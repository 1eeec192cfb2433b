"""Text that people have labelled: documents of a known class, or words with a tag each, from local files or the hub.

The data sets that sparse probing is known for are those of SAEBench (Karvonen et al. 2025, arXiv:2503.09532).
"""

import hashlib
import json
import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields, replace
from itertools import islice
from typing import Literal, NamedTuple, TypeAlias

from sae_bench_htopk.known_labels import DocumentClasses, WordTags
from sae_bench_htopk.labels import Labels
from sae_bench_htopk.text import Files, Hub, Row, TextError, value_at

LEAST = 3  # documents of each class: one to choose latents on, one to fit on, one to score on; a trustworthy number takes far more
TENTH = 10  # a class with fewer documents than one in so many of another's is refused: the others would be cut to as few
PATIENCE = 500  # rows that are looked at for each document wanted, before a class that is too rare counts as used up
UNKNOWN = {-1, -100}  # what stands where a class is not known (`datasets`), and where a tag is not to count (PyTorch)
PREFIXES = {"B-", "I-", "E-", "S-", "L-", "U-"}  # where in a name of several words a word stands (BIO, BIOES, BILOU)

LabelledSource: TypeAlias = Files | Hub


class LabelledDocuments(NamedTuple):
    """What a labelled text comes to: the documents, and who knows their labels."""

    texts: tuple[str, ...]
    labels: Labels


@dataclass(frozen=True)
class Part:
    """The documents of one class, where each class has a configuration, a column or files of its own."""

    label: str
    name: str | None = None  # of the hub's data set, the configuration; None: as the whole text has it
    column: str | None = None
    paths: tuple[str, ...] | None = None  # of local files

    def source(self, whole: LabelledSource) -> LabelledSource:
        """The whole text's source, but for what this part says."""
        given = {key: value for key in ("name", "column", "paths") if (value := getattr(self, key)) is not None}
        return replace(whole, **given)


@dataclass(frozen=True)
class Classes:
    """Documents of one class each, in the order in which the data set has them.

    As many of one class as of another: of each no more than the rarest has, which must be a tenth of what the others have.
    """

    source: LabelledSource
    label: str | None = None  # the column that holds the class, a whole number or text
    parts: tuple[Part, ...] = ()  # or where to find each class
    names: Mapping[str, str] | None = None  # value -> class; other values are left out. None: as the data set names them, all of them
    match: Literal["whole", "ending"] = "whole"  # "ending": names are of what a value ends with, as a path does with .py
    skip: int = 0  # characters that are left out at the beginning of each document, with it the documents that have no more
    documents: int = 1000  # of all classes, at most
    length: int = 128  # tokens of each document that are measured, from its beginning

    def __post_init__(self) -> None:
        at_least(self, documents=1, length=1, skip=0)
        if (self.label is None) == (not self.parts):
            raise ValueError("parts: label is given too, wanted one of the two" if self.parts else "label or parts, wanted one of the two")
        if self.parts and self.names is not None:
            raise ValueError("names: each of the parts names its own class, wanted none")
        if self.match == "ending" and self.names is None:
            raise ValueError("match: ending, wanted names beside it, of what values end with")
        if len(set(self.parts)) < len(self.parts):
            raise ValueError("parts: one is given twice, wanted every one once")
        for part in self.parts:
            for key in ("name", "column", "paths"):
                if getattr(part, key) is not None and key not in {field.name for field in fields(self.source)}:
                    raise ValueError(f"parts: {key} is given, which is no key of this source")

    def read(self) -> LabelledDocuments:
        """The documents, class by class in turn if there are parts. Raises TextError if a class has too few of them."""
        classes = self.classes()
        if (share := self.documents // len(classes)) < LEAST:
            raise TextError(f"text.documents: {self.documents}, wanted at least {LEAST * len(classes)}, {LEAST} of each of {', '.join(classes)}")
        found = self.of_parts(share) if self.parts else self.of_label(share, len(classes))
        kept = balanced(found, classes)
        return LabelledDocuments(tuple(text for text, _ in kept), DocumentClasses(classes, [classes.index(name) for _, name in kept]))

    def classes(self) -> tuple[str, ...]:
        """The names of all classes. Raises TextError if an endless source does not say what they are, or there is only one."""
        if self.parts:
            known: Iterable[str] = (part.label for part in self.parts)
        elif self.names is not None:
            known = self.names.values()
        else:
            first = next(iter(self.source.rows()), None)
            known = class_names(first.features.get(self.label or "")) if first else ()
            if not known and not self.source.finite:
                raise TextError(f"text.names: the data set does not say which classes {self.label} holds, wanted a mapping of its values to names")
            known = known or sorted({name for row in self.source.rows() if (name := self.class_of(row))})
        if len(classes := tuple(dict.fromkeys(known))) < 2:
            raise TextError(f"text.label: {len(classes)} classes are known ({', '.join(classes) or 'none'}), wanted at least 2")
        return classes

    def class_of(self, row: Row) -> str | None:
        """The class of one row; None if it has none, or one that is left out. Raises TextError if the column is absent or holds something else."""
        value = value_at(row.columns, self.label or "", row.origin, "label")
        if value is None:
            return None
        if not isinstance(value, int | str):
            raise TextError(f"text.label: {row.origin}, column {self.label!r} holds {type(value).__name__}, wanted a whole number or text")
        if self.names is None:
            return called(value, class_names(row.features.get(self.label or "")))
        if self.match == "ending":
            return next((self.names[end] for end in sorted(self.names, key=len, reverse=True) if str(value).endswith(end)), None)
        return self.names.get(str(value))

    def of_label(self, share: int, classes: int) -> list[tuple[str, str]]:
        """(text, class) in the order of the rows, at most an equal share of each class."""
        held, found = Counter[str](), []
        for row in islice(self.source.rows(), PATIENCE * self.documents):
            name = self.class_of(row)
            if name is not None and held[name] < share and (text := self.text_of(row, self.source)):
                found.append((text, name))
                held[name] += 1
                if len(found) == share * classes:
                    break
        return found

    def of_parts(self, share: int) -> list[tuple[str, str]]:
        """(text, class), an equal share of each class, divided among its parts; the first of each part before the second of any."""
        found, parts, asked = list[list[str]](), Counter(part.label for part in self.parts), Counter[str]()
        for part in self.parts:
            source, own = part.source(self.source), (share + asked[part.label]) // parts[part.label]  # of 5 among 2: 2 and 3
            texts = (text for row in islice(source.rows(), PATIENCE * self.documents) if (text := self.text_of(row, source)))
            found.append(list(islice(texts, own)))
            asked[part.label] += 1
        return [(texts[place], part.label) for place in range(share) for part, texts in zip(self.parts, found, strict=True) if place < len(texts)]

    def text_of(self, row: Row, source: LabelledSource) -> str:
        """What is kept of a row's text; empty if nothing of it can be seen."""
        text = row.document(source.column).text[self.skip :]
        return text if text.strip() else ""

    def identity(self) -> object:
        """What names this text, without where local files lie."""
        sources = [[part.label, part.source(self.source).identity(), part.column] for part in self.parts] or self.source.identity()
        own = {field.name: getattr(self, field.name) for field in fields(self) if field.name not in ("source", "parts")}
        return ["classes", sources, self.source.column, own]


@dataclass(frozen=True)
class Tagged:
    """Documents that come as lists of words with a tag for each; the text is the words with a space between."""

    source: LabelledSource  # its column is the words
    tags: str  # the column of their tags
    names: Mapping[str, str] | None = None  # tag -> label; other tags are none. None: every tag but the commonest, by its own name
    merge: bool = False  # B-X, I-X and the like are one tag, X
    documents: int = 1000
    length: int = 128  # tokens of each document that are measured, from its beginning

    def __post_init__(self) -> None:
        at_least(self, documents=1, length=1)

    def read(self) -> LabelledDocuments:
        """The first documents that hold a word. Raises TextError if too few do, or no tag is left to be a label."""
        found = list(islice(self.tagged(), self.documents))
        if len(found) < LEAST:
            raise TextError(f"text.documents: {len(found)} that are not empty, wanted at least {LEAST}")
        held = Counter(tag for _, tags in found for tag in tags if tag is not None)
        commonest = min(held, key=lambda tag: (-held[tag], tag), default=None)
        names = {tag: tag for tag in sorted(held) if tag != commonest} if self.names is None else self.names
        if not set(names) & set(held):
            raise TextError(f"text.tags: column {self.tags!r} holds {', '.join(sorted(held)) or 'no tag'}, of which none is left to be a label")
        labels = tuple(dict.fromkeys(names.values()))
        numbered = [[labels.index(names[tag]) if tag is not None and tag in names else None for tag in tags] for _, tags in found]
        return LabelledDocuments(tuple(" ".join(words) for words, _ in found), WordTags(labels, [words for words, _ in found], numbered))

    def tagged(self) -> Iterator[tuple[list[str], list[str | None]]]:
        """The words of each row that has any, and the tag of each, None if it has none. Raises TextError if a row holds something else."""
        for row in self.source.rows():
            words, tags = (listed(value_at(row.columns, column, row.origin, key), row, key, column) for key, column in self.columns())
            if len(words) != len(tags):
                raise TextError(f"text.tags: {row.name} has {len(words)} words and {len(tags)} tags, wanted one for each word")
            named = class_names(getattr(row.features.get(self.tags), "feature", None))
            known = [self.merged(called(tag, named)) for tag in tags]
            pairs = [(str(word), tag) for word, tag in zip(words, known, strict=True) if str(word).strip()]
            if pairs:
                yield [word for word, _ in pairs], [tag for _, tag in pairs]

    def merged(self, tag: str | None) -> str | None:
        """The tag without the place of its word in a name, if such tags are to be one."""
        return tag[2:] if tag and self.merge and tag[:2] in PREFIXES else tag

    def columns(self) -> tuple[tuple[str, str], ...]:
        """(key of the suite, column) of words and tags."""
        return ("column", self.source.column), ("tags", self.tags)

    def identity(self) -> object:
        """What names this text, without where local files lie."""
        own = {field.name: getattr(self, field.name) for field in fields(self) if field.name != "source"}
        return ["tags", self.source.identity(), self.source.column, own]


def at_least(config: Classes | Tagged, **least: int) -> None:
    """Raises ValueError if a number is less than it may be."""
    for key, bound in least.items():
        if (given := getattr(config, key)) < bound:
            raise ValueError(f"{key}: {given}, wanted a whole number of at least {bound}")


def balanced(found: Sequence[tuple[str, str]], classes: Sequence[str]) -> list[tuple[str, str]]:
    """The first (text, class) of each class, as many as the rarest has. Raises TextError if that is too few, or a small part of what another has."""
    held, kept = Counter(name for _, name in found), Counter[str]()
    rarest, commonest = (pick(classes, key=held.__getitem__) for pick in (min, max))
    if held[rarest] < (wanted := max(LEAST, math.ceil(held[commonest] / TENTH))):
        why = f", a tenth of the {held[commonest]} of {commonest}" if wanted > LEAST else " of each class"
        raise TextError(f"text.documents: class {rarest} has {held[rarest]} that are not empty, wanted at least {wanted}{why}")
    level = []
    for text, name in found:
        kept[name] += 1
        if kept[name] <= held[rarest]:
            level.append((text, name))
    return level


def class_names(feature: object) -> list[str]:
    """The names of the classes of a column by their numbers, if the data set gives them."""
    return list(getattr(feature, "names", None) or ())


def called(value: int | str, names: Sequence[str]) -> str | None:
    """What a data set calls a class or a tag, by its number if it gives names; None for one that it does not know."""
    if value in UNKNOWN:
        return None
    if not names or not isinstance(value, int):
        return str(value)
    return names[value] if 0 <= value < len(names) else None


def listed(value: object, row: Row, key: str, column: str) -> list[int | str]:
    """A list of words or tags. Raises TextError if it is something else."""
    if not isinstance(value, list | tuple) or not all(isinstance(item, int | str) for item in value):
        raise TextError(f"text.{key}: {row.origin}, column {column!r} holds {type(value).__name__}, wanted a list of words or tags")
    return list(value)


def fingerprint(text: Classes | Tagged, name: str) -> str:
    """16 hex digits: of the content of local files, of the name and revision of the hub's, and of every setting. Raises TextError if a file is missing."""
    with saying(name):
        return hashlib.sha256(json.dumps(text.identity(), sort_keys=True).encode()).hexdigest()[:16]


def read(text: Classes | Tagged, name: str) -> LabelledDocuments:
    """The documents and labels of the text that a suite calls `name`. Raises TextError if it cannot be read as the suite says."""
    with saying(name):
        return text.read()


@contextmanager
def saying(name: str) -> Iterator[None]:
    """Errors name the labelled text of the suite whose key they are about."""
    try:
        yield
    except TextError as error:
        raise TextError(f"labelled.{name}.{str(error).removeprefix('text.')}") from error
