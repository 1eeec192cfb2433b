"""A page for each SAE on which a reader looks at some of its latents: the text on which they are strongest, how often they fire, what labels they serve.

It is made of what a metric keeps in its details under `shown_latents`; any metric that keeps them so gets its pages, whoever wrote it.
"""

import functools
import hashlib
import html
import re
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from sae_bench_htopk.asked import HELD_OUT, text_of
from sae_bench_htopk.board import Board
from sae_bench_htopk.contract import Reading
from sae_bench_htopk.markdown import literal, rounded, words
from sae_bench_htopk.saes import Sae

SHOWN, NONE = "shown_latents", "none_shown"  # the key of the latents in a metric's details, and that of the reason why there are none
FOLDER = "latents"  # of the pages, in the suite's own
SIGNS = {"\n": "⏎", "\r": "␍", "\t": "⇥"}  # for what would break a line
LONGEST = 100  # letters of a file's name, of those that every file system takes


class Looked(NamedTuple):
    """One SAE of one seed at one reading, and what its metric kept of it."""

    sae: Sae
    seed: int
    reading: Reading
    text: str  # that it was looked at on
    details: Mapping[str, Any]


def looked_at(board: Board, key: str = SHOWN) -> Iterator[Looked]:
    """Every row with latents to look at; one that borrows weights and is read whole would show its owner's latents again."""
    borrowers = {sae for sae, _ in board.borrowed}
    for sae in board.everything:
        for seed, rows in sae.rows.items():
            for reading in sorted(rows, key=lambda reading: (reading.k, reading.latents or 0, reading.select, reading.cut, reading.rank)):
                for metric, details in rows[reading].get("details", {}).items():
                    if isinstance(details, Mapping) and details.get(key) and (reading.latents or sae not in borrowers):
                        yield Looked(sae, seed, reading, text_of(metric), details)


def read_as(one: Looked) -> str:
    """The reading and the seed in words."""
    of = f", {one.reading.latents:,} latents cut {one.reading.cut} the choice of codes, by {one.reading.rank}" if one.reading.latents else ""
    on = "" if one.text == HELD_OUT else f", on {one.text}"
    return f"k = {one.reading.k} by {one.reading.select}{of}, seed {one.seed}{on}"


def named(board: Board) -> dict[str, Looked]:
    """Every page by its file's name: small letters, digits, dots and dashes, which tell no two apart by case; a hash where that is not enough."""
    found: dict[str, Looked] = {}
    for one in looked_at(board):
        of = f" {one.reading.latents} latents {one.reading.cut} {one.reading.rank}" if one.reading.latents else ""
        whole = f"{board.label(one.sae)} at {one.reading.k} {one.reading.select}{of} seed {one.seed}{'' if one.text == HELD_OUT else f' on {one.text}'}"
        name = re.sub(r"[^a-z0-9_.]+", "-", whole.lower()).strip("-.")
        if len(name) > LONGEST or f"{name}.md" in found:
            name = f"{name[:LONGEST]}-{hashlib.sha256(whole.encode()).hexdigest()[:8]}"
        found[f"{name}.md"] = one
    return found


def pages(board: Board) -> dict[str, str]:
    """The text of each page, by its file's name."""
    return {name: page(board, one) for name, one in named(board).items()}


def section(board: Board) -> str:
    """The links to the pages, a line for each SAE, and who has none though latents were asked for; nothing where nobody asked."""
    links: dict[Sae, list[str]] = {}
    for name, one in named(board).items():
        links.setdefault(one.sae, []).append(f"[{read_as(one)}]({board.suite}/{FOLDER}/{name})")
    lines = [f"- {board.label(sae)}{' (control)' if sae.control else ''}: {', '.join(of)}" for sae, of in links.items()]
    missing = [f"- {board.label(one.sae)}, {read_as(one)}: none ({one.details[NONE]})" for one in looked_at(board, NONE)]
    said = "Some latents of each SAE, drawn at random and by the labels that they serve, each with the text on which it is strongest:"
    return "\n\n".join([said, "\n".join(lines + missing)]) if lines or missing else ""


def page(board: Board, one: Looked) -> str:
    """One page without its first line, which says who made it."""
    label = board.label(one.sae)
    back = f"[The board]({'../' * 2}{board.suite}.md) has the numbers."
    parts = [f"# Latents of {label}, read at k = {one.reading.k}", f"{opening(board, one)} {back}", choice(one.details), marks(one.details)]
    return "\n\n".join([*parts, *(latent(each, one.details["rows"]) for each in one.details[SHOWN])]) + "\n"


def opening(board: Board, one: Looked) -> str:
    """Which SAE it is, and on what text."""
    model = board.records[0]["model"]
    hook = model.get("hook", {})
    text = "held-out tokens" if one.text == HELD_OUT else f"tokens of the labelled text {one.text}"
    return (
        f"{len(one.details[SHOWN])} of the latents of {board.label(one.sae)} ({one.sae.latents:,} latents) read at {read_as(one)}, with the text on which "
        f"each is strongest among {one.details['rows']:,} {text} of {model.get('path', '?')}, layer {hook.get('layer', '?')} ({hook.get('site', '?')})."
    )


def choice(details: Mapping[str, Any]) -> str:
    """How latents were chosen, and what serving a label means."""
    drawn, unknown = details["drawn"], details.get("no_labels")
    said = f"Chosen: {drawn} drawn uniformly among the {details['live']:,} latents that fire, {drawn} drawn with a chance in proportion to how often they fire"
    if unknown:
        return f"{said}. Labels are not known: {literal(visible(str(unknown)))}."
    return (
        f"{said}, and for each headline label the latent whose firing tells it best. A latent serves a label if the F1 of 'it fires' as a prediction of the "
        f"label is at least {details['served']:g} above what firing as often at random reaches, which stands behind it. Latents are chosen and scored on the "
        "same tokens here, so these F1 are for looking; the board's are scored on other documents."
    )


def marks(details: Mapping[str, Any]) -> str:
    """What is marked in the contexts."""
    return (
        f"Each line is one context, {details['before']} tokens before the strongest and {details['after']} after it, with its activation: the strongest "
        f"of each document, and a second of one only where there are too few. **«»** marks that token; **bold** are others of the latent's {details['kept']} "
        f"strongest tokens, of which at most {details['per_document']} of a document are known: it may fire, less, on tokens that are not marked. "
        f"{SIGNS[chr(10)]} is a line's end, {SIGNS[chr(9)]} a tab."
    )


def latent(each: Mapping[str, Any], rows: int) -> str:
    """One latent: its numbers, and its contexts one under the other, the strongest tokens in one column."""
    why, often = words(each["chosen"]), rounded(100 * each["fired"] / rows)
    serves = (
        words(f"{literal(visible(str(name)))} (F1 {f1:.2f}, by chance {chance:.2f})" for name, f1, chance in each["labels"]) if each["labels"] else "no label"
    )
    numbers = f"{literal(visible(why[:1].upper() + why[1:]))}. Fires on {often}% of tokens; largest activation {rounded(each['largest'])}."
    said = [f"## Latent {each['latent']}", f"{numbers} Serves {serves}."]
    if not each["contexts"]:
        return "\n\n".join(said)
    cut = [(of["activations"][of["peak"]], *sides(of["text"], 2 * of["peak"] + 1)) for of in each["contexts"]]
    wide = max(len(plain) for _, plain, _, _ in cut)
    lines = [f"{activation:>8.4g}  {' ' * (wide - len(plain))}{before}{after}" for activation, plain, before, after in cut]
    return "\n\n".join([*said, "<pre>\n" + "\n".join(lines) + "\n</pre>"])


def sides(text: Sequence[str], peak: int) -> tuple[str, str, str]:
    """(what stands before the strongest token, as it is seen; the same as HTML; that token and what follows, as HTML)."""
    parts = [f"<b>{'«' * (place == peak)}{escaped(part)}{'»' * (place == peak)}</b>" if place % 2 else escaped(part) for place, part in enumerate(text)]
    return "".join(map(visible, text[:peak])), "".join(parts[:peak]), "".join(parts[peak:])


@functools.lru_cache(2**16)  # tokens come again and again
def visible(text: str) -> str:
    """The text in one line: a sign for each end of line and tab, and the number of whatever else is not seen or turns the line around."""
    if text.isprintable():  # which holds none of these
        return text
    return "".join(SIGNS.get(sign, f"\\u{ord(sign):04x}" if unicodedata.category(sign)[0] == "C" or sign in "\u2028\u2029" else sign) for sign in text)


@functools.lru_cache(2**16)
def escaped(text: str) -> str:
    """The same where HTML stands: in <pre> nothing else has a meaning, so that Markdown's own signs stay what they are."""
    return html.escape(visible(text), quote=False)
