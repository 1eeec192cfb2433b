"""Which records may stand in one table: those of one text and one model, one for each SAE and seed."""

import json
from collections.abc import Sequence

from sae_bench_htopk.records import Record, stage_of

PARTS = ("model", "fingerprint"), ("model", "hook"), ("text", "train"), ("text", "calibration"), ("text", "held_out")


def newest(records: Sequence[Record]) -> tuple[list[Record], list[str]]:
    """(the records of the text and model that most have, the latest for each SAE and seed; a sentence for each record left out)."""
    order = latest_first(records)
    shared = common(records)
    first = shared[0]
    kept: dict[str, Record] = {}
    left_out = []
    for record in order:
        sae = record["sae"]
        identity = json.dumps([sae["variant"], sae["config"], sae["latents"], sae["seed"], record["settings"].get("rate"), stage_of(record)], sort_keys=True)
        if other := another(record, first):
            count = f"{len(shared)} of the {len(order)} records have its text and model"
            left_out.append(f"{record['train_key']}.json: another {' and '.join(other)} than {first['train_key']}.json: {count}")
        elif identity in kept:
            left_out.append(f"{record['train_key']}.json: the same SAE and seed as {kept[identity]['train_key']}.json, which is later")
        else:
            kept[identity] = record
    return sorted(kept.values(), key=lambda record: str(record["train_key"])), left_out


def latest_first(records: Sequence[Record]) -> list[Record]:
    """By when their training began."""
    return sorted(records, key=lambda record: (record["provenance"].get("when", ""), record["train_key"]), reverse=True)


def common(records: Sequence[Record]) -> list[Record]:
    """The most records that are of one text and model, the latest first; where as many are of another, those with the latest."""
    groups: list[list[Record]] = []
    for record in latest_first(records):
        group = next((group for group in groups if not another(record, group[0])), None)
        if group is None:
            groups.append([record])
        else:
            group.append(record)
    return max(groups, key=len)  # one late record of another text must not take the page from all the others


def another(one: Record, other: Record) -> list[str]:
    """In which parts of model and text two records differ: then nothing of one may stand in a table with the other."""
    found = [f"{part} {key}" for part, key in PARTS if one[part].get(key) != other[part].get(key)]
    mine, theirs = (record["text"].get("labelled") or {} for record in (one, other))
    return found + [f"text {name}" for name in sorted(mine.keys() & theirs.keys()) if mine[name] != theirs[name]]
