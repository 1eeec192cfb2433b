"""The frozen classes of a suite's primary contrasts: which SAE is held against which, in what number and where."""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Annotated, Any, TypeAlias, get_type_hints

from sae_bench_htopk import plugins
from sae_bench_htopk.saes import COMPARED
from sae_bench_htopk.strict_yaml import Value
from sae_bench_htopk.suite_types import Count, Dictionary, Rate, Title, VariantName
from sae_bench_htopk.typed import Names, Rule, build, required

MOST = 8  # each further contrast takes from what Holm's correction leaves to the others
DECLARED = Rule(lambda contrasts: contrasts is not None, "a mapping with why and pairs, or no such key for no primary contrasts")
ColumnName: TypeAlias = Annotated[str, Names(lambda: COMPARED)]


@dataclass(frozen=True)
class Side:
    """One SAE of the suite: its variant and as many of its settings as tell it from the others."""

    variant: str
    settings: Mapping[str, Any]  # of the variant's own Config
    latents: int | None = None
    rate: float | None = None

    @classmethod
    def from_value(cls, value: Value) -> "Side":
        """`variant` names the class whose Config has the other keys, beside latents and rate."""
        name = required(value, "variant", VariantName)
        config = plugins.variant(name).Config
        hints = get_type_hints(config, include_extras=True)
        known = {field.name: hints[field.name] for field in fields(config) if field.init} | {"latents": Count, "rate": Rate}
        for key, item in value.data.items():
            if key not in ("variant", *known):
                raise item.error(f"unknown key ({item.written} given); {plugins.suggest(key, ('variant', *known))}")
        given = {key: build(known[key], item) for key, item in value.data.items() if key != "variant"}
        return cls(name, latents=given.pop("latents", None), rate=given.pop("rate", None), settings=given)


@dataclass(frozen=True)
class Pair:
    """One contrast: a column, read at k on so many latents (None: all that each side has), of one SAE against the other."""

    column: ColumnName
    k: Count
    one: Side
    other: Side
    latents: Dictionary = None


@dataclass(frozen=True)
class Contrasts:
    """The declared family, and why these; all else on the page is exploratory."""

    why: Title
    pairs: Annotated[tuple[Pair, ...], Rule(lambda pairs: len(pairs) <= MOST, f"at most {MOST} pairs")]
