"""Plots of the ablation, of mIoU by threshold, object or image size, and of precision by recall."""

from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import matplotlib as mpl

mpl.use("Agg")
from matplotlib import pyplot as plt

from clipseg_pl.atomic import write_whole
from clipseg_pl.inference.overlay import COLOURS
from clipseg_pl.runs.tables.plan import Plan, Row
from clipseg_pl.runs.tables.stored_results import StoredResults

_PROMPT_TYPES = ("text", "visual")
_PALETTE = [tuple(part / 255 for part in colour) for colour in COLOURS]


def draw_plots(plan: Plan, results: StoredResults, folder: Path) -> list[Path]:
    """Draw every plot whose results are available, and delete the others.

    Args:
        plan: plan of a world.
        results: stored results of the world.
        folder: folder for the PNG files.

    Returns:
        The files written.
    """
    drawn = {
        "ablation.png": _ablation(plan, results),
        "miou_by_threshold.png": _curves(plan, results, "threshold"),
        "precision_recall.png": _curves(plan, results, "precision"),
        "miou_by_object_size.png": _curves(plan, results, "size"),
        "miou_by_image_size.png": _image_sizes(plan, results),
    }
    written = []
    for name, figure in drawn.items():
        if figure is None:
            (folder / name).unlink(missing_ok=True)
        else:
            folder.mkdir(parents=True, exist_ok=True)
            figure.tight_layout()
            save = partial(figure.savefig, format="png", dpi=110, metadata={"Software": None})
            write_whole(folder / name, save)
            plt.close(figure)
            written.append(folder / name)
    return written


def _ablation(plan: Plan, results: StoredResults) -> Any:  # noqa: ANN401 - a figure of matplotlib
    """Draw Table 9 as bars. Error bars go from the lowest to the highest seed."""
    found = {row.name: results.figures(row) for row in _rows(plan, "T9")}
    rows = {name: figures for name, figures in found.items() if not isinstance(figures, str)}
    if not rows:
        return None
    figure, axes = plt.subplots(figsize=(9, 4))
    for offset, column in enumerate(("mIoU", "visual mIoU")):
        values = [figures[column] for figures in rows.values()]
        means = [sum(seeds) / len(seeds) for seeds in values]
        spread = [
            [mean - min(seeds) for mean, seeds in zip(means, values, strict=True)],
            [max(seeds) - mean for mean, seeds in zip(means, values, strict=True)],
        ]
        places = [place + 0.4 * offset for place in range(len(rows))]
        label = "by visual prompt" if offset else "by text"
        axes.bar(places, means, 0.38, yerr=spread, label=label, color=_PALETTE[offset], capsize=3)
    axes.set_xticks([place + 0.2 for place in range(len(rows))], rows, rotation=15)
    axes.set(ylabel="mIoU at the best threshold, %", title=f"Ablation on {plan.world.title}")
    axes.legend()
    return figure


def _reports(plan: Plan, results: StoredResults) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield prompt type and report (see `Protocol.report`) of CLIPSeg (PC+) on PhraseCut."""
    rows = [row for row in _rows(plan, "T9") if row.name == "CLIPSeg (PC+)"]
    evaluations = rows[0].seeds[0][0] if rows else ()
    for prompt_type, evaluation in zip(_PROMPT_TYPES, evaluations, strict=False):
        if results.state(evaluation) == "valid":
            yield prompt_type, results.result(evaluation)["report"]


def _curves(plan: Plan, results: StoredResults, kind: str) -> Any:  # noqa: ANN401
    reports = list(_reports(plan, results))
    if not reports:
        return None
    figure, axes = plt.subplots(figsize=(6, 4))
    for colour, (prompt_type, report) in zip(_PALETTE, reports, strict=False):
        tables = {title.removeprefix(f"{prompt_type}: "): table for title, table in report.items()}
        if kind == "size":
            (sizes,) = (t for title, t in tables.items() if title.endswith("share of the image"))
            points: tuple[list[Any], list[float]] = list(sizes), list(sizes.values())
            labels = "share of the image that the target covers", "mean IoU"
        elif kind == "precision":
            recall, precision = (tables[f"{name} by threshold"] for name in ("recall", "precision"))
            points = list(recall.values()), list(precision.values())
            labels = "recall", "precision"
        else:
            miou = tables["miou by threshold"]
            points = [float(threshold) for threshold in miou], list(miou.values())
            labels = "threshold", "mIoU"
        axes.plot(*points, marker="o", markersize=3, color=colour, label=_label(prompt_type))
    axes.set(xlabel=labels[0], ylabel=labels[1], ylim=(0, 1))
    return _titled(figure, axes, plan)


def _image_sizes(plan: Plan, results: StoredResults) -> Any:  # noqa: ANN401
    """Draw mIoU by image size."""
    rows: list[tuple[Row, dict[str, list[float]]]] = [
        (row, found)
        for row in _rows(plan, "F5")
        if not isinstance(found := results.figures(row), str)
    ]
    if len(rows) < 2:
        return None
    figure, axes = plt.subplots(figsize=(6, 4))
    for colour, prompt_type, column in zip(
        _PALETTE, _PROMPT_TYPES, ("mIoU", "visual mIoU"), strict=False
    ):
        sides = [int(row.name) for row, _ in rows]
        values = [found[column][0] for _, found in rows]
        axes.plot(sides, values, marker="o", color=colour, label=_label(prompt_type))
    axes.set(xlabel="side of the images, pixels", ylabel="mIoU at the best threshold, %")
    return _titled(figure, axes, plan)


def _titled(figure: Any, axes: Any, plan: Plan) -> Any:  # noqa: ANN401
    axes.set_title(f"CLIPSeg (PC+) on PhraseCut's test split, {plan.world.title}", fontsize=10)
    axes.grid(alpha=0.3)
    axes.legend()
    return figure


def _rows(plan: Plan, key: str) -> Sequence[Row]:
    """Return the rows of a table, or no rows if the table does not exist."""
    return [row for table in plan.tables if table.key == key for row in table.rows]


def _label(prompt_type: str) -> str:
    return "by text" if prompt_type == "text" else "by visual prompt"
