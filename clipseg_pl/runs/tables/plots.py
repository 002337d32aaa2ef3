"""Pictures of the tables: ablation, thresholds, precision and recall, sizes of object and image."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl

mpl.use("Agg")
from matplotlib import pyplot as plt

from clipseg_pl.inference.overlay import COLOURS
from clipseg_pl.runs.tables.evidence import Evidence
from clipseg_pl.runs.tables.plan import Plan, Row

_READINGS = ("text", "visual")
_PALETTE = [tuple(part / 255 for part in colour) for colour in COLOURS]


def draw_plots(plan: Plan, evidence: Evidence, folder: Path) -> list[Path]:
    """Draw every plot whose figures are there.

    Args:
        plan: of the world.
        evidence: its results.
        folder: for the PNGs.

    Returns:
        The files written.
    """
    drawn = {
        "ablation.png": _ablation(plan, evidence),
        "miou_by_threshold.png": _curves(plan, evidence, "threshold"),
        "precision_recall.png": _curves(plan, evidence, "precision"),
        "miou_by_object_size.png": _curves(plan, evidence, "size"),
        "miou_by_image_size.png": _image_sizes(plan, evidence),
    }
    written = []
    for name, figure in drawn.items():
        if figure is not None:
            folder.mkdir(parents=True, exist_ok=True)
            figure.tight_layout()
            figure.savefig(folder / name, dpi=110, metadata={"Software": None})
            plt.close(figure)
            written.append(folder / name)
    return written


def _ablation(plan: Plan, evidence: Evidence) -> Any:  # noqa: ANN401 - a figure of matplotlib
    """Table 9 as bars, with the range over seeds."""
    found = {row.name: evidence.figures(row) for row in _rows(plan, "T9")}
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


def _reports(plan: Plan, evidence: Evidence) -> Iterator[tuple[str, dict[str, Any]]]:
    """Reading and report of the whole model on PhraseCut."""
    whole = [row for row in _rows(plan, "T9") if row.name == "CLIPSeg (PC+)"]
    evaluations = whole[0].seeds[0][0] if whole else ()
    for reading, evaluation in zip(_READINGS, evaluations, strict=False):
        if evidence.state(evaluation) == "valid":
            yield reading, evidence.result(evaluation)["report"]


def _curves(plan: Plan, evidence: Evidence, kind: str) -> Any:  # noqa: ANN401
    reports = list(_reports(plan, evidence))
    if not reports:
        return None
    figure, axes = plt.subplots(figsize=(6, 4))
    for colour, (reading, report) in zip(_PALETTE, reports, strict=False):
        tables = {title.removeprefix(f"{reading}: "): table for title, table in report.items()}
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
        axes.plot(*points, marker="o", markersize=3, color=colour, label=_label(reading))
    axes.set(xlabel=labels[0], ylabel=labels[1], ylim=(0, 1))
    return _titled(figure, axes, plan)


def _image_sizes(plan: Plan, evidence: Evidence) -> Any:  # noqa: ANN401
    """Quality over the side of the images."""
    rows: list[tuple[Row, dict[str, list[float]]]] = [
        (row, found)
        for row in _rows(plan, "F5")
        if not isinstance(found := evidence.figures(row), str)
    ]
    if len(rows) < 2:
        return None
    figure, axes = plt.subplots(figsize=(6, 4))
    for colour, reading, column in zip(_PALETTE, _READINGS, ("mIoU", "visual mIoU"), strict=False):
        sides = [int(row.name) for row, _ in rows]
        values = [found[column][0] for _, found in rows]
        axes.plot(sides, values, marker="o", color=colour, label=_label(reading))
    axes.set(xlabel="side of the images, pixels", ylabel="mIoU at the best threshold, %")
    return _titled(figure, axes, plan)


def _titled(figure: Any, axes: Any, plan: Plan) -> Any:  # noqa: ANN401
    axes.set_title(f"CLIPSeg (PC+) on PhraseCut's test split, {plan.world.title}", fontsize=10)
    axes.grid(alpha=0.3)
    axes.legend()
    return figure


def _rows(plan: Plan, key: str) -> Sequence[Row]:
    """Rows of a table, none where there is no such table."""
    return [row for table in plan.tables if table.key == key for row in table.rows]


def _label(reading: str) -> str:
    return "by text" if reading == "text" else "by visual prompt"
