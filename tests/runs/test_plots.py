"""Plots of stored results."""

from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from clipseg_pl.protocols.overlap import SIZE_NAMES
from clipseg_pl.runs.tables.plan import Evaluation, Plan, Row, Table, Training, World
from clipseg_pl.runs.tables.plots import draw_plots

NAMES = {
    *("ablation.png", "miou_by_threshold.png", "precision_recall.png"),
    *("miou_by_object_size.png", "miou_by_image_size.png"),
}
COLUMNS = {"mIoU": "text/miou@best", "visual mIoU": "visual/miou@best"}


def evaluation(name):
    return Evaluation(name, Training("pc_plus", (), ()), (), ())


def row(name):
    return Row(name, COLUMNS, {}, (((evaluation("text"), evaluation("visual")),),))


PLAN = Plan(
    World("toy", "the toy world"),
    (
        Table("T9", "", "", (row("CLIPSeg (PC+)"), row("no visual"), row("missing"))),
        Table("F5", "", "", (row("64"), row("96"), row("missing"))),
    ),
    (),
)


def report(prompt_type):
    curve = {f"{t:.2f}": 1 - t for t in np.linspace(0.02, 0.98, 49)}
    return {
        **{
            f"{prompt_type}: {name} by threshold": curve for name in ("miou", "precision", "recall")
        },
        f"{prompt_type}: mean iou@0.3 by share of the image": dict.fromkeys(SIZE_NAMES[1:4], 0.5),
    }


@pytest.fixture
def results():
    figures = {"mIoU": [30.0, 34.0, 35.0], "visual mIoU": [20.0, 21.0, 25.0]}
    return SimpleNamespace(
        figures=lambda row: "missing" if row.name == "missing" else figures,
        state=lambda evaluation: "valid",
        result=lambda evaluation: {"report": report(evaluation.name)},
    )


@pytest.mark.slow
def test_every_plot_with_results_is_drawn(results, tmp_path):
    written = draw_plots(PLAN, results, tmp_path / "new")
    assert {file.name for file in written} == NAMES
    for file in written:
        image = np.asarray(Image.open(file).convert("RGB"))
        colours = {tuple(colour) for colour in image.reshape(-1, 3).tolist()}
        assert {(213, 94, 0), (0, 114, 178)} <= colours, file  # text, visual prompt


def test_no_plot_is_drawn_or_kept_without_results(results, tmp_path):
    results.figures, results.state = (lambda row: "missing"), (lambda evaluation: "missing")
    (tmp_path / "ablation.png").touch()
    (tmp_path / "own.png").touch()
    assert draw_plots(PLAN, results, tmp_path) == []
    assert [file.name for file in tmp_path.iterdir()] == ["own.png"]
