"""What a suite must not say: numbers that no training has, sizes that no dictionary has, and metrics of readings that there are not."""

from collections.abc import Iterable, Sequence
from dataclasses import replace

from sae_bench_htopk import plugins
from sae_bench_htopk.asked import HELD_OUT
from sae_bench_htopk.contract import Reading, Selector
from sae_bench_htopk.strict_yaml import Value
from sae_bench_htopk.suite_fields import MetricUse, Only, Sae, Shorter, Suite
from sae_bench_htopk.typed import choice

MAY_BE_ZERO = {"warm_up", "decay", "auxk", "ema_from", "stream_seed", "betas"}  # of the recipe's numbers; no other one may
SHARES = {"warm_up", "decay", "ema_from", "betas"}  # of the recipe's numbers; none may exceed 1


def check_sizes(suite: Suite, root: Value) -> None:
    """Refuses numbers of the recipe that no training has, and texts too short to give one batch or one window."""
    for key, item in root.at("train").data.items():
        for number in item.data if isinstance(item.data, list) else [item]:
            if isinstance(number.data, bool):
                continue
            if number.data is not None and (number.data < 0 or (number.data == 0 and key not in MAY_BE_ZERO)):
                raise number.wanted("a number of at least 0" if key in MAY_BE_ZERO else "a number above 0")
            if key in SHARES and number.data > 1:
                raise number.wanted("a share of at most 1")
    if suite.train.tokens < suite.train.batch:
        raise root.at("train.tokens").wanted(f"at least one batch of {suite.train.batch}")
    for part, tokens in (("held_out", suite.text.held_out.tokens), ("calibration", suite.text.calibration.tokens)):
        if tokens < suite.model.context:
            raise root.at(f"text.{part}.tokens").wanted(f"at least one window of {suite.model.context}, the model's context")


def within(own: Value, size: int, holder: str) -> None:
    """Refuses a `read` with a k or a number of latents that is larger than every dictionary it reads."""
    for key in ("k", "latents"):
        for item in own.data[key].data if key in own.data else ():
            if isinstance(item.data, int) and item.data > size:
                raise item.wanted(f"at most {size}, the size of {holder}")


def check_shorter(shorter: Shorter, suite: Suite, value: Value) -> None:
    """Refuses shorter trainings that are none, of seeds that the suite has not, and metrics that it does not measure."""
    if not suite.train.batch <= shorter.tokens < suite.train.tokens:
        raise value.at("tokens").wanted(f"at least one batch of {suite.train.batch:,}, and fewer than the {suite.train.tokens:,} of train.tokens")
    for seed, item in zip(shorter.seeds, value.at("seeds").data, strict=True):
        if seed not in suite.seeds:
            raise item.wanted(f"one of the suite's seeds, {', '.join(map(str, suite.seeds))}")
    if not shorter.seeds:
        raise value.at("seeds").wanted("at least one of the suite's seeds")
    named = {use.name for use in suite.metrics}
    for use, item in zip(shorter.metrics, value.at("metrics").data, strict=True):
        if use.name not in named:
            raise item.error(f"{use.name} is no metric that the suite measures, wanted one of {', '.join(sorted(named))}")
    check_metrics(shorter.metrics, [sae for sae in suite.saes if sae.seed in shorter.seeds], suite, value.at("metrics"))


def check_metrics(uses: Sequence[MetricUse], saes: Iterable[Sae], suite: Suite, metrics: Value) -> None:
    """Refuses a metric that is listed twice, a text that is not there, and a limit that no reading of these SAEs meets."""
    readings = [(reading, plugins.variant(sae.variant).native(sae.config), sae.seed, sae.latents) for sae in saes for reading in sae.readings()]
    names = [use.name for use in uses]
    for place, (use, value) in enumerate(zip(uses, metrics.data, strict=True)):
        if use.name in names[:place]:
            raise value.error(f"the metric {use.name} is listed twice; it stands in line {metrics.data[names.index(use.name)].line} too")
        for text in value.at("on").data if value.at("on") is not value else ():
            choice(text, [HELD_OUT, *suite.labelled])
        if use.only:
            given = value.at("only")
            for only, part in zip(use.only.any_of, given.data if isinstance(given.data, list) else [given], strict=True):
                check_limits(only, part, readings)


def check_limits(only: Only, value: Value, readings: list[tuple[Reading, Selector, int, int]]) -> None:
    """Refuses a value that limits a metric to readings that do not exist, and limits that no reading meets together."""
    for key, items in value.data.items():
        for limit, item in zip(getattr(only, key), items.data, strict=True):
            alone = replace(Only(), **{key: (limit,)})
            if not any(alone.allows(*reading) for reading in readings):
                raise item.wanted(f"a value of {key} that some SAE of the suite is read at")
    if not any(only.allows(*reading) for reading in readings):
        raise value.error(f"{value.written} leaves the metric no reading of any SAE of the suite")
