"""The kinds of value that keys of a suite may have, each with its own words for what is wanted."""

from typing import Annotated, TypeAlias

from sae_bench_htopk import plugins
from sae_bench_htopk.typed import Names, Rule, Word

DISTINCT = Rule(lambda items: len(set(items)) == len(items), "every value once")
GIVEN = Rule(lambda items: items is not None, "a list, or no such key for no limit")
Count: TypeAlias = Annotated[int, Rule(lambda count: count >= 1, "a whole number of at least 1")]
Rate: TypeAlias = Annotated[float, Rule(lambda rate: rate > 0, "a number above 0")]
Seed: TypeAlias = Annotated[int, Rule(lambda seed: seed >= 0, "a whole number of at least 0")]
Dictionary: TypeAlias = Annotated[Count | None, Word("all", None)]
Share: TypeAlias = Annotated[float, Rule(lambda share: 0 < share < 1, "a share above 0 and below 1")]
Title: TypeAlias = Annotated[str, Rule(lambda title: "\n" not in title, "one line of text")]
VariantName: TypeAlias = Annotated[str, Names(lambda: plugins.names("variants"))]
