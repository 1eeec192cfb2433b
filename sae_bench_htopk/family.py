"""The primary contrasts of a suite beside its SAEs: which of them each names, what is refused, and what records say of it.

They move no key of weights or of numbers: only pages look at them.
"""

import json
from dataclasses import asdict, replace
from typing import Any

from sae_bench_htopk import plugins
from sae_bench_htopk.asked import HELD_OUT
from sae_bench_htopk.contract import Reading, Selector
from sae_bench_htopk.declared import Pair, Side
from sae_bench_htopk.strict_yaml import Value
from sae_bench_htopk.suite_fields import Sae, Suite

SIDES = ("one", "other")


def check(suite: Suite, given: Value) -> None:
    """Refuses a contrast that names no SAE or several, that nothing measures, that cannot differ, or that stands there twice."""
    if suite.contrasts is None:
        return
    before: dict[object, Value] = {}
    for pair, value in zip(suite.contrasts.pairs, given.at("pairs").data, strict=True):
        one, other = (named(suite, getattr(pair, side), value.at(side)) for side in SIDES)
        for sae, side in ((one, "one"), (other, "other")):
            check_reading(suite, pair, sae, value, value.at(side).written)
        check_difference(pair, one, other, value)
        identity = pair.column, frozenset((suite.saes.index(sae), reading_of(pair, sae)) for sae in (one, other))
        if identity in before:
            raise value.error(
                f"is the same contrast as {before[identity].path} in line {before[identity].line}, wanted every contrast once, whichever way round"
            )
        before[identity] = value


def named(suite: Suite, side: Side, value: Value) -> Sae:
    """The SAE that a side names, with the suite's first seed. Raises SuiteError unless it is exactly one."""
    found = [sae for sae in suite.saes if sae.seed == suite.seeds[0] and is_meant(suite, side, sae)]
    if not found:
        raise value.wanted("an SAE that stands under saes")
    if len(found) > 1:
        settings = [asdict(sae.config) | {"latents": sae.latents, "rate": rate_of(suite, sae)} for sae in found]
        differing = ", ".join(key for key in settings[0] if any(other[key] != settings[0][key] for other in settings))
        raise value.error(f"{value.written} names {len(found)} SAEs of the suite, wanted exactly one, told from the others by {differing}")
    return found[0]


def is_meant(suite: Suite, side: Side, sae: Sae) -> bool:
    """Whether an SAE is all that a side says of it."""
    config = asdict(sae.config)
    rates = side.rate in (None, rate_of(suite, sae))
    return side.variant == sae.variant and side.latents in (None, sae.latents) and rates and all(config[key] == value for key, value in side.settings.items())


def rate_of(suite: Suite, sae: Sae) -> float:
    """The learning rate that it is trained with."""
    return replace(suite.train, rate=suite.train.rate if sae.rate is None else sae.rate).learning_rate(sae.latents)


def native_of(sae: Sae) -> Selector:
    """The selector of its headline."""
    return plugins.variant(sae.variant).native(sae.config)


def reading_of(pair: Pair, sae: Sae) -> Reading:
    """How a contrast reads an SAE: natively, and on the most important latents where it has more than the contrast names."""
    return Reading(pair.k, None if pair.latents in (None, sae.latents) else pair.latents, native_of(sae))


def check_reading(suite: Suite, pair: Pair, sae: Sae, value: Value, written: str) -> None:
    """Refuses a k or a number of latents that an SAE is not natively read at, and a number that no metric of the suite measures there."""
    wanted = reading_of(pair, sae)
    read = [reading for reading in sae.readings() if reading == replace(wanted, k=reading.k, latents=reading.latents)]
    ks = sorted({reading.k for reading in read if reading.latents == wanted.latents})
    by = f"of {written} by its native selector, {wanted.select}"
    if not ks:
        sizes = ", ".join(map(str, sorted({reading.latents or sae.latents for reading in read}))) or "none"
        raise value.at("latents").error(f"{pair.latents or 'all'} latents are in no reading {by}, wanted one of {sizes}")
    if pair.k not in ks:
        raise value.at("k").error(f"{pair.k} is in no reading {by}, on {wanted.latents or 'all'} latents, wanted one of {', '.join(map(str, ks))}")
    metric = pair.column.partition(".")[0]
    uses = [use for use in suite.metrics if use.name == metric and HELD_OUT in use.on]
    if not any(use.only is None or any(use.only.allows(wanted, wanted.select, seed, sae.latents) for seed in suite.seeds) for use in uses):
        where = f"k {pair.k} on {wanted.latents or 'all'} latents"
        raise value.at("column").error(f"{pair.column} is not measured at {where} {by}, wanted a column of a metric that the suite asks for there")


def check_difference(pair: Pair, one: Sae, other: Sae, value: Value) -> None:
    """Refuses an SAE against itself, or against another name for the same numbers."""
    if one is other:
        raise value.at("other").error(f"{value.at('other').written} is the same SAE as one, wanted another")
    same = weights_of(one) == weights_of(other) and reading_of(pair, one) == reading_of(pair, other)
    if same and reading_of(pair, one).latents is None:
        raise value.error("both sides read the same weights on the whole dictionary and are identical by construction, wanted two SAEs that can differ")


def weights_of(sae: Sae) -> tuple[object, ...]:
    """What tells whose weights it reads."""
    base, settings = plugins.variant(sae.variant).trained_as(sae.config) or (sae.variant, None)
    return base, sae.config if settings is None else plugins.variant(base).Config(**settings), sae.latents, sae.rate


def as_json(suite: Suite) -> dict[str, Any] | None:
    """The family as records hold it, with all settings of each side, so that a page needs no suite; None if none is declared."""
    if suite.contrasts is None:
        return None
    pairs = [
        {"column": pair.column, "k": pair.k, "latents": pair.latents} | {side: side_of(suite, getattr(pair, side)) for side in SIDES}
        for pair in suite.contrasts.pairs
    ]
    made: dict[str, Any] = json.loads(json.dumps({"why": suite.contrasts.why, "pairs": pairs}))  # as a record gives it back: no tuples
    return made


def side_of(suite: Suite, side: Side) -> dict[str, Any]:
    """All that tells one side's SAE from others, on any board."""
    sae = next(sae for sae in suite.saes if is_meant(suite, side, sae))
    return {"variant": sae.variant, "config": asdict(sae.config), "latents": sae.latents, "rate": rate_of(suite, sae)}
