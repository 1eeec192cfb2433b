"""The colours and markers of figures: the same for a variant on every page, told apart by the colour-blind, readable on a light and on a dark page."""

import hashlib
from collections.abc import Iterable
from pathlib import Path

from sae_bench_htopk import plugins

# Okabe and Ito's colours, which the colour-blind can tell apart: without yellow and black, the palest two darkened,
# so that each has a contrast of 3 to white and to GitHub's dark page
PALETTE = ("#CC8400", "#3399D6", "#009E73", "#0072B2", "#D55E00", "#CC79A7")
MARKERS = ("o", "s", "^", "D", "v", "P")
GREY = "#808080"  # the same contrast on a white and on a near-black page


def look(variants: Iterable[str]) -> dict[str, tuple[str, str]]:
    """(colour, marker) of each variant, the same on every page: a hash of its name, the next free one if that is taken; packaged variants first."""
    places: dict[str, int] = {}
    packaged = {path.stem for path in Path(plugins.folder("variants")).glob("*.py")} & set(plugins.names("variants"))
    for name in [*sorted(packaged), *sorted({*variants, *plugins.names("variants")} - packaged)]:
        start = int(hashlib.sha256(name.encode()).hexdigest(), 16)
        turn = [(start + step) % len(PALETTE) for step in range(len(PALETTE))]
        places[name] = next((place for place in turn if place not in places.values()), turn[0])
    return {name: (PALETTE[place], MARKERS[place]) for name, place in places.items()}
