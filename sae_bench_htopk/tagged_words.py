"""Documents whose words have a tag each, such as the names of people and places."""

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from itertools import islice

from sae_bench_htopk.known_labels import WordTags
from sae_bench_htopk.labelled_source import LEAST, LabelledDocuments, LabelledSource, at_least, called, class_names
from sae_bench_htopk.text import Row, TextError, value_at

PREFIXES = {"B-", "I-", "E-", "S-", "L-", "U-"}  # where in a name of several words a word stands (BIO, BIOES, BILOU)


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


def listed(value: object, row: Row, key: str, column: str) -> list[int | str]:
    """A list of words or tags. Raises TextError if it is something else."""
    if not isinstance(value, list | tuple) or not all(isinstance(item, int | str) for item in value):
        raise TextError(f"text.{key}: {row.origin}, column {column!r} holds {type(value).__name__}, wanted a list of words or tags")
    return list(value)
