"""The plan as text: what there is to do and why, in how many passes, and what it takes of memory, disk and time."""

from collections.abc import Sequence

from tabulate import tabulate

from sae_bench_htopk import estimate, memory, rates
from sae_bench_htopk.keys import learners
from sae_bench_htopk.markdown import words
from sae_bench_htopk.plan import Item, Pass, copies, reads, schedule
from sae_bench_htopk.suite import Suite


def table(suite: Suite, all_items: Sequence[Item], device: str, notes: Sequence[str], at_once: int | None = None) -> str:
    """The whole plan."""
    rows = [(each.training.label(), each.todo, sum(len(readings) for _, readings in each.missing), each.why) for each in all_items]
    parts = schedule(suite, all_items, device, at_once)
    return "\n".join(
        [
            f"{suite.name}: {suite.title}",
            "",
            tabulate(rows, headers=["SAE", "to do", "readings", "why"]),
            "",
            *training(suite, parts, device, at_once),
            f"held out: {suite.text.held_out.tokens:,} tokens; calibration: {suite.text.calibration.tokens:,} tokens",
            *labelled(suite),
            *together(suite, all_items, parts, device),
            *taken(suite, parts, device),
            *(f"note:     {line}" for line in notes),
        ]
    )


def training(suite: Suite, parts: Sequence[Pass], device: str, at_once: int | None) -> list[str]:
    """How many SAEs are trained in how many passes over the text, and why there are more of these than seeds."""
    groups = [trained for part in parts for group in part.trainings if (trained := learners(group))]
    seeds = len({one.seed for group in groups for one in group})
    passes = f"{len(groups)} passes over the text (of {', '.join(str(len(group)) for group in groups)} SAEs)"
    how = passes if len(groups) > seeds else f"one pass over the text per seed ({seeds})"
    seen = sorted({estimate.tokens_of(one) for group in groups for one in group}) or [suite.train.tokens]
    lines = [f"training: {sum(map(len, groups))} SAEs on {words(f'{tokens:,}' for tokens in seen)} tokens each, {how}"]
    kept = sorted({estimate.tokens_of(one) for part in parts for group in part.trainings for one in group if one.whole} - set(seen))
    if kept:
        lines.append(f"kept too: after {words(f'{tokens:,}' for tokens in kept)} tokens, to be measured as SAEs of their own")
    lengths = len({(one.seed, one.shorter) for group in groups for one in group})
    if lengths > seeds:
        lines.append("passes:   shorter trainings have passes of their own")
    if len(groups) > lengths:
        largest = max(memory.learning(suite, [one for group in part.trainings for one in group], device) for part in parts)
        limit = "" if at_once is None else f"; --at-once {at_once}"
        lines.append(
            f"passes:   more than one for a seed, since all of its SAEs together want about {room(device, largest)}{limit}; weights do not depend on it"
        )
    return lines


def labelled(suite: Suite) -> list[str]:
    """A line for each labelled text."""
    lengths = {name: memory.length_of(suite, name) for name in suite.labelled}
    return [f"labelled: {name}, at most {tokens:,} tokens of {documents:,} documents" for name, (documents, tokens) in lengths.items()]


def together(suite: Suite, all_items: Sequence[Item], parts: Sequence[Pass], device: str) -> list[str]:
    """A line on whether seeds are measured together; none where there are not several, or where training goes seed by seed anyway."""
    todo = [each for each in all_items if each.todo != "done"]
    if len({each.training.seed for each in todo}) < 2 or any(each.todo == "train" for each in todo):
        return []
    several = any(len({each.training.seed for each in part.items}) > 1 for part in parts)
    asked = [room(place, size) for place, size in memory.wanted(suite, copies(todo), reads(todo), device).items()]
    return [f"passes:   {'one for all seeds' if several else 'seed after seed'}, since all together want about {'; and '.join(asked)}"]


def taken(suite: Suite, parts: Sequence[Pass], device: str) -> list[str]:
    """Operations, memory, disk and time."""
    work, before = estimate.work(suite, parts), estimate.model_flops(suite)[0]
    fresh = [one for part in parts for group in part.trainings for one in group]
    steps = sum(estimate.step_flops(suite, one) for one in learners(fresh))
    held = " and ".join(f"{size / 2**30:.2f} GiB on the {place}" for place, size in estimate.peaks(suite, parts, device).items()) or "0 GiB"
    model = f"{memory.subject(suite) / 2**30:.2f} GiB of the language model on the {device}"
    return [
        f"work:     {before:.2e} operations of the language model up to the hook for each token of a pass, {steps:.2e} of all SAEs;"
        f" {work.training():.2e} of training in all, {work.evaluation():.2e} of evaluation",
        f"memory:   about {held} for SAEs, Adam, activations, predictions and what metrics keep, beside {model}",
        f"disk:     about {estimate.disk(suite, fresh) / 2**20:,.0f} MiB of weights,"
        f" and up to {estimate.snapshots(suite, parts) / 2**20:,.0f} MiB of snapshots while a pass is trained",
        *times(work, device, suite.model.dtype),
    ]


def times(work: estimate.Work, device: str, dtype: str) -> list[str]:
    """How long it takes: here, or at least on a GPU of the table."""
    train, evaluate = map(spoken, work.seconds(estimate.pace(device, dtype)))
    if (known := rates.MEASURED.get(device)) is None:
        guess = "" if device == "cpu" else "; what share of a product's speed it reaches was measured on a CPU alone"
        return [f"time:     about {train} of training, {evaluate} of evaluation on this {device}{guess}"]
    of_model = f"the language model at {known.bfloat16 / 1e12:.0f} TFLOP/s, " if dtype == "bfloat16" else ""
    in_float32 = "SAEs and predictions" if of_model else "SAEs and the language model"
    return [
        f"time:     at least {train} of training, {evaluate} of evaluation on one {known.device}, beside metrics' own work:",
        f"          {of_model}memory at {known.copy / 1e9:,.0f} GB/s (measured: {known.what});",
        f"          {in_float32}, in float32, at {known.float32 / 1e12:.0f} TFLOP/s, the maker's peak ({rates.PEAK});"
        " no step of training was timed on a GPU yet, so how much longer one takes is not known",
    ]


def spoken(seconds: float) -> str:
    """Minutes, hours or days, whichever fits."""
    for unit, size in (("days", 86_400), ("hours", 3600)):
        if seconds > 2 * size:
            return f"{seconds / size:,.1f} {unit}"
    return f"{seconds / 60:.1f} min"


def room(device: str, size: int) -> str:
    """What is wanted of a device's memory, and what there is."""
    there = memory.free(device)
    free = "how much is free is not known" if there is None else f"{there / 2**30:.2f} GiB are free, of which they may take {memory.SHARE:.0%}"
    return f"{size / 2**30:.2f} GiB on the {device}; {free}"
