"""Text that people have labelled: documents of a known class, or words with a tag each, from local files or the hub."""

import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager

from sae_bench_htopk.document_classes import Classes
from sae_bench_htopk.labelled_source import LabelledDocuments
from sae_bench_htopk.tagged_words import Tagged
from sae_bench_htopk.text import TextError


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
