"""From a suite's YAML file to a frozen Suite: sweeps and seeds multiplied out, and nothing in it that contradicts the rest.

Only lists under `sweep`, `read` and `seeds` multiply; an entry's `read` may be a list of such products. Every error is a
SuiteError of one sentence that names file, line, key, the value given, what is wanted, and the nearest valid name.
"""

import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import fields, replace
from itertools import product
from pathlib import Path

from sae_bench_htopk import family, plugins
from sae_bench_htopk.strict_yaml import SuiteError, Value, read
from sae_bench_htopk.suite_checks import check_metrics, check_shorter, check_sizes, within
from sae_bench_htopk.suite_fields import (
    SCHEMA,
    CalibrationText,
    HeldOut,
    Labelled,
    MetricUse,
    Model,
    Only,
    Read,
    Sae,
    Shape,
    Shorter,
    Suite,
    Text,
)
from sae_bench_htopk.suite_types import Count, Rate, Title, VariantName
from sae_bench_htopk.typed import build, record, required

__all__ = [
    "CalibrationText",
    "HeldOut",
    "Labelled",
    "MetricUse",
    "Model",
    "Only",
    "Read",
    "Sae",
    "Shape",
    "Shorter",
    "Suite",
    "SuiteError",
    "Text",
    "load",
    "suite_names",
    "title_of",
]

ENTRY = ("variant", "latents", "rate", "read", "sweep")  # keys of an entry of `saes` that are the suite's; the others are its Config's


def folder() -> Path:
    """The packaged suites: inside the package if they are there (a wheel), else beside it (a checkout)."""
    inside = Path(__file__).parent / "suites"
    return inside if inside.is_dir() else inside.parents[1] / "suites"


def suite_names() -> list[str]:
    """The packaged suites, sorted."""
    return sorted(path.stem for path in folder().glob("*.yaml"))


def title_of(name: str) -> str:
    """The title of a packaged suite. Raises SuiteError if there is no such suite or it has no title."""
    title: str = required(read(find(name)), "title", Title)
    return title


def find(path_or_name: str) -> Path:
    """An existing file, else the packaged suite of that name. Raises SuiteError with the nearest name."""
    if os.path.isfile(path_or_name):
        return Path(path_or_name)
    if path_or_name in suite_names():
        return folder() / f"{path_or_name}.yaml"
    what = "is a folder" if os.path.isdir(path_or_name) else "is no file"
    raise SuiteError(f"{path_or_name} {what}, wanted a YAML file or the name of a suite; {plugins.suggest(Path(path_or_name).stem, suite_names())}")


def load(path_or_name: str) -> Suite:
    """The suite of a file, or a packaged one by name. Raises SuiteError if it is not exactly what a suite may be."""
    path = find(path_or_name)
    root = read(path)
    schema = required(root, "schema", int)
    if schema != SCHEMA:
        newer = ", since a newer sae_bench_htopk wrote this suite: upgrade to run it" if schema > SCHEMA else ""
        raise root.at("schema").wanted(f"{SCHEMA}{newer}")
    if not re.fullmatch(r"\w[\w-]*", path.stem) or path.stem.lower() == "readme":  # it names the page and the folder of records
        raise root.error(f"the file is called {path.stem}, wanted a name of letters, digits, _ and -, and not README")
    suite = record(Suite, root, name=path.stem, saes=(), beside=["saes"])
    check_sizes(suite, root)
    suite = replace(suite, saes=saes_of(required(root, "saes", tuple[Value, ...]), suite, root.at("read")))
    within(root.at("read"), max(sae.latents for sae in suite.saes), "the largest dictionary of the suite")
    check_metrics(suite.metrics, suite.saes, suite, root.at("metrics"))
    if suite.shorter is not None:
        check_shorter(suite.shorter, suite, root.at("shorter"))
    family.check(suite, root.at("contrasts"))
    return suite


def saes_of(entries: tuple[Value, ...], suite: Suite, suite_read: Value) -> tuple[Sae, ...]:
    """Every SAE of the suite: by entry, then by sweep, then by seed. Raises SuiteError if two are the same."""
    found: list[tuple[Value, Sae]] = []
    for entry in entries:
        points = [(point, sae_of(point, suite, suite_read)) for point in sweep(entry)]
        for own in products_of(entry):
            within(own, max(sae.latents for _, sae in points), "this entry's dictionary")
        for point, sae in points:
            for other, before in found:
                if (sae.variant, sae.config, sae.latents, sae.rate) == (before.variant, before.config, before.latents, before.rate):
                    raise entry.error(f"{point.written} is the same SAE as {other.path} in line {other.line}, wanted every SAE once")
            found.append((point, sae))
    found = [(point, replace(sae, rate=rate_of(point, sae, [other for _, other in found]))) for point, sae in found]
    return tuple(replace(sae, seed=seed) for _, sae in found for seed in suite.seeds)


def rate_of(entry: Value, sae: Sae, others: list[Sae]) -> float | None:
    """Its own rate; of one that reads another's weights and names none, the other's. Raises SuiteError if the other is trained at several."""
    base, settings = plugins.variant(sae.variant).trained_as(sae.config) or (sae.variant, None)
    if sae.rate is not None or settings is None:
        return sae.rate
    config = plugins.variant(base).Config(**settings)
    rates = {other.rate for other in others if (other.variant, other.config, other.latents) == (base, config, sae.latents)}
    if len(rates) > 1:
        raise entry.error(f"{entry.written} reads the weights of {base}, which is trained at several rates here; wanted one of them as its rate")
    return rates.pop() if rates else None


def sweep(entry: Value) -> Iterator[Value]:
    """The entry without its `sweep`, once for every combination of the lists that stand there."""
    if not isinstance(entry.data, dict) or "sweep" not in entry.data:
        yield entry
        return
    swept = entry.data["sweep"]
    lists: Mapping[str, tuple[Value, ...]] = build(Mapping[str, tuple[Value, ...]], swept)
    rest = {key: value for key, value in entry.data.items() if key != "sweep"}
    for key in lists:
        if key in rest or key in ("variant", "read", "sweep"):
            raise swept.at(key).error(f"{key} cannot be swept here" + (", since the entry gives it too" if key in rest else ""))
    for items in product(*lists.values()):
        point = dict(zip(lists, items, strict=True))
        yield replace(entry, data={**rest, **point}, written=", ".join(f"{key}: {item.written}" for key, item in point.items()))


def sae_of(entry: Value, suite: Suite, suite_read: Value) -> Sae:
    """One SAE with the suite's first seed. Raises SuiteError if it cannot be trained at its budget, or no reading is left."""
    variant = plugins.variant(name := required(entry, "variant", VariantName))
    config = record(variant.Config, entry, beside=ENTRY)
    latents = required(entry, "latents", Count) if "latents" in entry.data else suite.train.latents
    budget = variant.budget(config)
    if budget is not None and not 1 <= budget <= latents:
        wanted = f"at most {latents}, since a budget cannot be larger than the dictionary" if budget > latents else "a budget of at least 1"
        raise entry.at("k").wanted(wanted)
    rate = required(entry, "rate", Rate) if "rate" in entry.data else None
    rate = None if rate == suite.train.rate else rate
    own = products_of(entry) or (suite_read,)
    read = tuple(record(Read, replace(one, data={**suite_read.data, **one.data})) for one in own)
    sae = Sae(name, config, latents, suite.seeds[0], read, rate)
    for one, given in zip(read, own, strict=True):
        if not sae.multiplied(one):
            where = given if len(own) > 1 else entry
            raise where.error(f"no reading of a dictionary of {latents} is left: k {list(one.k)} at latents {list(one.latents)}")
    return sae


def products_of(entry: Value) -> tuple[Value, ...]:
    """What an entry says of its own readings: nothing, one mapping, or a list of them. Raises SuiteError if it is something else."""
    if "read" not in entry.data:
        return ()
    own = entry.data["read"]
    parts: tuple[Value, ...] = build(tuple[Value, ...], own) if isinstance(own.data, list) else (own,)
    for part in parts:
        if not isinstance(part.data, dict):
            raise part.wanted(f"a mapping with keys of {', '.join(field.name for field in fields(Read))}" + (", or a list of such" if part is own else ""))
    return parts
