"""Documents of a known class, as many of one class as of another.

The data sets that sparse probing is known for are those of SAEBench (Karvonen et al. 2025, arXiv:2503.09532).
"""

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from itertools import islice
from typing import Literal

from sae_bench_htopk.known_labels import DocumentClasses
from sae_bench_htopk.labelled_source import LEAST, LabelledDocuments, LabelledSource, at_least, called, class_names
from sae_bench_htopk.text import Row, TextError, value_at

TENTH = 10  # a class with fewer documents than one in so many of another's is refused: the others would be cut to as few
PATIENCE = 500  # rows that are looked at for each document wanted, before a class that is too rare counts as used up


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
