"""Makes the SVG of a figure, readable on a light and on a dark page."""

import importlib
import io
from typing import Any

import matplotlib
import matplotlib.style

from sae_bench_htopk.picture import Picture


def svg(picture: Picture) -> str:
    """The figure, text as text, with its stamp in a comment; the same on every run of one matplotlib."""
    settings: dict[str, Any] = {"svg.hashsalt": "sae_bench_htopk", "svg.fonttype": "none", "font.size": 11}
    figure = importlib.import_module(f"sae_bench_htopk.{picture.module}")
    with matplotlib.style.context(["default", settings]):
        figure.draw(picture).savefig(file := io.StringIO(), format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    return file.getvalue().replace("<svg ", f"<!-- stamp {picture.stamp()} -->\n<svg ", 1)
