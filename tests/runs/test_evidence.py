"""What counts as a result, and what it comes to."""

import pytest

from clipseg_pl.runs.tables.evidence import Evidence
from clipseg_pl.runs.tables.plan import Evaluation, Row, Training


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
def evidence(tmp_path):
    digests = {"t0": "same", "t1": "same", "t2": "same"}
    made = Evidence(tmp_path / "results", lambda one: digests[one.training.name])
    for number, miou in enumerate((0.25, 0.5)):
        made.add(evaluation(number), content(miou), 20.0)
    return made


def row(*seeds):
    """Seeds of folds with one benchmark each."""
    nested = tuple(tuple((fold,) for fold in seed) for seed in seeds)
    return Row("x", {"mIoU": "text/miou@best"}, {}, nested)


def test_figures_are_percentages_over_folds_and_one_for_each_seed(evidence):
    both = row((evaluation(0), evaluation(1)), (evaluation(1), evaluation(1)))
    assert evidence.figures(both) == {"mIoU": [37.5, 50.0]}


def test_a_row_is_missing_as_long_as_one_run_is(evidence):
    assert evidence.figures(row((evaluation(0), evaluation(2)))) == "missing"


def test_results_of_something_else_are_stale(evidence, tmp_path):
    later = Evidence(evidence.folder, lambda one: "other" if one.training.name == "t1" else "same")
    assert later.state(evaluation(0)) == "valid" and later.state(evaluation(1)) == "stale"
    assert later.figures(row((evaluation(0), evaluation(1)))) == "stale"


def test_a_result_is_kept_with_what_made_it_and_rounded(evidence):
    kept = evidence.result(evaluation(0))
    assert kept["training_seconds"] == 20.0 and kept["digest"] == "same"
    assert kept["metrics"] == {"text/miou@best": 0.25, "text/prompts": 3}
    assert kept["report"] == {"a": {"b": 0.12346}}


def test_results_from_before_a_metric_was_measured_are_stale(evidence):
    asked = row((evaluation(0), evaluation(1)))
    evidence.add(evaluation(1), {**content(0.5), "metrics": {"val/text/prompts": 3}})
    assert evidence.figures(asked) == "stale"


def test_benchmarks_of_a_fold_may_share_the_columns(evidence):
    other = Evaluation("another", evaluation(0).training, ("pc_plus.yaml",), ())
    evidence.add(other, {**content(0.0), "metrics": {"val/visual/ap": 0.75}})
    both = Row("x", {"mIoU": "text/miou@best", "AP": "visual/ap"}, {}, (((evaluation(0), other),),))
    assert evidence.figures(both) == {"mIoU": [25.0], "AP": [75.0]}


def test_points_of_the_alignment_experiment_are_not_shares(evidence):
    evidence.add(evaluation(0), {**content(0.0), "metrics": {"alignment/crop/mean": 13.6}})
    asked = Row("crop", {"gain": "alignment/crop/mean"}, {}, (((evaluation(0),),),))
    assert evidence.figures(asked) == {"gain": [13.6]}
