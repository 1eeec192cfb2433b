"""A text as metrics are shown it: its windows of tokens, the texts of its documents, and who knows its labels."""

from collections.abc import Mapping
from typing import NamedTuple

from sae_bench_htopk.labelled_text import Classes, Tagged, read
from sae_bench_htopk.labels import Labels
from sae_bench_htopk.suite import Labelled
from sae_bench_htopk.text import Document, TextError
from sae_bench_htopk.windows import Encode, Window, cut


class Shown(NamedTuple):
    """One text: held out, or labelled."""

    windows: list[Window]
    texts: list[str]
    labels: Labels | None = None

    @property
    def tokens(self) -> int:
        """How many there are in all windows."""
        return sum(len(window.ids) for window in self.windows)


def labelled(texts: Mapping[str, Labelled], names: list[str], encode: Encode, context: int) -> dict[str, Shown]:
    """Reads these labelled texts and cuts the beginning of each document into windows. Raises TextError if one cannot be read."""
    return {name: shown(texts[name].text, name, encode, context) for name in names}


def shown(text: Classes | Tagged, name: str, encode: Encode, context: int) -> Shown:
    """One labelled text: of each document no more than its first `length` tokens."""
    found = read(text, name)

    def beginning(document: str) -> tuple:  # type: ignore[type-arg]
        ids, spans = encode(document)
        return ids[: text.length], None if spans is None else spans[: text.length]

    windows = list(cut((Document(str(number), each, name) for number, each in enumerate(found.texts)), beginning, context))
    if not windows:
        raise TextError(f"labelled.{name}: its {len(found.texts)} documents hold no token")
    return Shown(windows, list(found.texts), found.labels)
