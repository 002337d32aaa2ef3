"""The text of RESULTS.md and the verdicts on claims."""

from types import SimpleNamespace

import pytest

from clipseg_pl.runs.tables.plan import Claim, Plan, Row, Table, World
from clipseg_pl.runs.tables.report import _verdict, figure, results_page

COLUMNS = {"mIoU": "text/miou@best", "AP": "text/ap"}


def plan():
    rows = (
        Row("ours", COLUMNS, {"mIoU": 43.6}, ()),
        Row("theirs", COLUMNS, {"mIoU": 13.1, "AP": 12.6}, ()),
        Row("other", COLUMNS, {}, ()),
        Row("old", COLUMNS, {}, ()),
        Row("near", COLUMNS, {}, ()),
        Row("new", COLUMNS, {}, ()),
    )
    claims = (
        Claim("First claim", ("T9", "ours", "mIoU"), ("T9", "theirs", "mIoU"), why="not used"),
        Claim("Failing claim", ("T9", "theirs", "AP"), ("T9", "ours", "AP"), why="it is small"),
        Claim("Mean claim", ("T9", "ours", "AP"), ("T9", "near", "AP"), why="it is close"),
        Claim("Second claim", ("T9", "ours", "mIoU"), ("T9", "other", "mIoU"), why="not used"),
    )
    world = World("toy", "the toy world", notes="Note on the world.")
    return Plan(world, (Table("T9", "Table 9", "Note on the table.", rows),), claims)


FIGURES = {
    "ours": {"mIoU": [30.0, 34.0], "AP": [50.0, 52.0]},
    "theirs": {"mIoU": [10.0, 12.0], "AP": [5.0, 5.0]},
    "other": "missing",
    "old": "stale",
    "new": "incomplete",
    "near": {"mIoU": [30.0], "AP": [50.5]},
}


@pytest.fixture
def results(tmp_path):
    folder = tmp_path / "results" / "toy"
    folder.mkdir(parents=True)
    (folder / "precision_recall.png").touch()
    return SimpleNamespace(figures=lambda row: FIGURES[row.name], folder=folder)


def test_tables_show_our_figures_next_to_the_papers(results):
    lines = results_page([(plan(), results)]).splitlines()
    assert "|  | mIoU | AP | paper: mIoU | paper: AP |" in lines
    assert "| ours | 32.0 (30.0 to 34.0) | 51.0 (50.0 to 52.0) | 43.6 |  |" in lines
    assert "| theirs | 11.0 (10.0 to 12.0) | 5.0 (5.0 to 5.0) | 13.1 | 12.6 |" in lines
    assert "| other | not run |  |  |  |" in lines
    assert "| old | stale: run again |  |  |  |" in lines
    assert "| new | a metric is missing |  |  |  |" in lines
    assert "![precision recall](results/toy/precision_recall.png)" in lines
    assert "Note on the world." in lines and "Note on the table." in lines
    assert "`--only T9`" in lines


def test_claims_show_both_figures(results):
    lines = results_page([(plan(), results)]).splitlines()
    (line,) = (line for line in lines if line.startswith("| First claim"))
    assert line.endswith("| yes |") and "theirs, mIoU: 11.0 (10.0 to 12.0)" in line
    (line,) = (line for line in lines if line.startswith("| Failing claim"))
    assert line.endswith("| no: it is small |")
    (line,) = (line for line in lines if line.startswith("| Mean claim"))
    assert line.endswith("| on average, not for every combination of seeds: it is close |")
    (line,) = (line for line in lines if line.startswith("| Second claim"))
    assert line.endswith("| other, mIoU: not run | not run |")


@pytest.mark.parametrize(
    ("left", "right", "share", "expected"),
    [
        ([3, 4], [1, 2], 1, "yes"),
        ([3], [2], 1, "yes (one seed)"),
        ([2, 5], [1, 3], 1, "on average, not for every combination of seeds"),
        ([1, 2], [3, 4], 1, "no"),
        ([2, 3], [3, 4], 0.4, "yes"),
        ([2], [2], 1, "no (one seed)"),
        ([2, 3], [3, 4], 1, "no"),
        ([], [2], 1, "not run"),
    ],
)
def test_verdict_on_a_claim(left, right, share, expected):
    assert _verdict(Claim("x", ("a", "b", "c"), ("a", "b", "c"), share), left, right) == expected


def test_figure_of_one_seed_has_no_range():
    assert figure([12.34]) == "12.3"
