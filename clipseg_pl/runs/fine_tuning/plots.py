"""Plots of a fine-tuning report, as SVG for the page and as PNG for Markdown."""

import io
import textwrap
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import matplotlib as mpl

mpl.use("Agg")
from matplotlib import pyplot as plt

from clipseg_pl.inference.overlay import COLOURS
from clipseg_pl.runs.fine_tuning.blocks import Plot

Curve = Sequence[tuple[float, float]]
"""points (x, y)"""

_AFTER, _BEFORE = (tuple(part / 255 for part in colour) for colour in COLOURS[:2])
_INK = "#010203"  # in the SVG, replaced by the text colour of the page
_INKED = ("text.color", "axes.edgecolor", "axes.labelcolor", "xtick.color", "ytick.color")


def plot_thresholds(metric: str, before: Curve, after: Curve, stored: float | None) -> Plot:
    """Plot a metric by threshold.

    Args:
        metric: name of the metric.
        before: curve before training; may be empty.
        after: curve after training.
        stored: threshold stored in the checkpoint, drawn as a vertical line.
    """

    def draw(axes: Any) -> None:  # noqa: ANN401 - matplotlib's axes
        if before:
            axes.plot(*zip(*before, strict=True), color=_BEFORE, ls="--", label="before")
        axes.plot(*zip(*after, strict=True), color=_AFTER, label="after")
        if stored is not None:
            axes.axvline(stored, color=_INK, lw=0.8, ls=":", label="stored threshold")
        axes.set(xlabel="threshold", ylabel=metric, xlim=(0, 1), ylim=(0, 1))
        axes.legend()

    return _plot(f"{metric} by threshold", draw)


def plot_groups(title: str, groups: Mapping[str, tuple[float | None, float | None]]) -> Plot:
    """Plot IoU by group as bars.

    Args:
        title: what the prompts are grouped by.
        groups: name of the group -> IoU before (if known) and after training.
    """

    def draw(axes: Any) -> None:  # noqa: ANN401
        starts = enumerate(start for start, _ in groups.values())
        before = {place: start for place, start in starts if start is not None}
        after = [end for _, end in groups.values()]
        if before:
            heights = list(before.values())
            axes.bar(list(before), heights, -0.4, align="edge", color=_BEFORE, label="before")
        axes.bar(range(len(after)), after, 0.4, align="edge", color=_AFTER, label="after")
        axes.set_xticks(range(len(after)), [textwrap.fill(name, 10) for name in groups], size=8)
        axes.set(xlabel=title, ylabel="IoU", ylim=(0, 1))
        axes.legend()

    return _plot(f"IoU by {title}", draw)


def plot_history(metric: str, curve: Curve) -> Plot:
    """Plot a metric that was logged during the training by step."""

    def draw(axes: Any) -> None:  # noqa: ANN401
        marker = "o" if len(curve) < 50 else ""
        axes.plot(*zip(*curve, strict=True), marker=marker, markersize=3, color=_AFTER)
        axes.set(xlabel="step", ylabel=metric)
        axes.set_ylim(bottom=0)

    return _plot(f"{metric} by step", draw)


def _plot(title: str, draw: Callable[[Any], None]) -> Plot:
    style: dict[Any, Any] = dict.fromkeys(_INKED, _INK)
    style |= {"svg.fonttype": "none", "svg.hashsalt": title, "legend.frameon": False}
    svg, png = io.StringIO(), io.BytesIO()
    with plt.rc_context(style):
        figure, axes = plt.subplots(figsize=(4.4, 3.2), layout="tight")
        axes.grid(alpha=0.25)
        axes.set_axisbelow(True)
        draw(axes)
        # no date, so that equal results give equal files
        figure.savefig(svg, format="svg", transparent=True, metadata={"Date": None})
        figure.savefig(png, format="png", dpi=110, metadata={"Software": None})
        plt.close(figure)
    text = svg.getvalue()
    return Plot(title, text[text.index("<svg") :].replace(_INK, "currentColor"), png.getvalue())
