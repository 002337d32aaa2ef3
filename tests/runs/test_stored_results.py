"""Stored results: validity and figures."""

import pytest

from clipseg_pl.runs.tables.plan import Evaluation, Row, Training
from clipseg_pl.runs.tables.stored_results import StoredResults


def evaluation(number):
    training = Training(f"t{number}", ("pc_plus.yaml",), (("seed_everything", number),))
    return Evaluation("benchmark", training, ("pc_plus.yaml",), ())


def content(miou):
    keys = ("dataset_sizes", "dataset_skipped", "commit", "dirty", "versions", "device")
    metrics = {"val/text/miou@best": miou, "val/text/prompts": 3}
    return {
        "metrics": metrics,
        "report": {"a": {"b": 0.123456789}},
        "seconds": 1.5,
        **dict.fromkeys(keys),
    }


@pytest.fixture
def results(tmp_path):
    digests = {"t0": "same", "t1": "same", "t2": "same"}
    stored = StoredResults(tmp_path / "results", lambda run: digests[run.training.name])
    for number, miou in enumerate((0.25, 0.5)):
        stored.add(evaluation(number), content(miou), 20.0)
    return stored


def row(*seeds):
    """Return a row of seeds of folds with one benchmark each."""
    nested = tuple(tuple((fold,) for fold in seed) for seed in seeds)
    return Row("x", {"mIoU": "text/miou@best"}, {}, nested)


def test_figures_are_percentages_per_seed_averaged_over_folds(results):
    both = row((evaluation(0), evaluation(1)), (evaluation(1), evaluation(1)))
    assert results.figures(both) == {"mIoU": [37.5, 50.0]}


def test_row_is_missing_if_one_run_is_missing(results):
    assert results.figures(row((evaluation(0), evaluation(2)))) == "missing"


def test_seeds_without_results_are_left_out(results):
    one = row((evaluation(2), evaluation(0)), (evaluation(0), evaluation(1)), (evaluation(2),))
    assert results.figures(one) == {"mIoU": [37.5]}


def test_results_with_another_digest_are_stale(results, tmp_path):
    later = StoredResults(
        results.folder, lambda run: "other" if run.training.name == "t1" else "same"
    )
    assert later.state(evaluation(0)) == "valid" and later.state(evaluation(1)) == "stale"
    assert later.figures(row((evaluation(0), evaluation(1)))) == "stale"
    assert later.figures(row((evaluation(1),), (evaluation(2),))) == "stale"


def test_stored_result_contains_digest_time_and_rounded_metrics(results):
    stored = results.result(evaluation(0))
    assert stored["training_seconds"] == 20.0 and stored["digest"] == "same"
    assert stored["metrics"] == {"text/miou@best": 0.25, "text/prompts": 3}
    assert stored["report"] == {"a": {"b": 0.12346}}


def test_results_without_a_newer_metric_are_incomplete(results):
    both = row((evaluation(0), evaluation(1)))
    results.add(evaluation(1), {**content(0.5), "metrics": {"val/text/prompts": 3}})
    assert results.figures(both) == "incomplete"


def test_columns_may_come_from_several_benchmarks_of_a_fold(results):
    other = Evaluation("another", evaluation(0).training, ("pc_plus.yaml",), ())
    results.add(other, {**content(0.0), "metrics": {"val/visual/ap": 0.75}})
    both = Row("x", {"mIoU": "text/miou@best", "AP": "visual/ap"}, {}, (((evaluation(0), other),),))
    assert results.figures(both) == {"mIoU": [25.0], "AP": [75.0]}


def test_alignment_results_are_already_percentage_points(results):
    results.add(evaluation(0), {**content(0.0), "metrics": {"alignment/crop/mean": 13.6}})
    crop = Row("crop", {"gain": "alignment/crop/mean"}, {}, (((evaluation(0),),),))
    assert results.figures(crop) == {"gain": [13.6]}
