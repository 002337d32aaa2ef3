"""The report of a fine-tuning shows the numbers of the results files."""

import json
import re
from html import unescape

import pytest
from PIL import Image

from clipseg_pl.cli.commands.report import main
from clipseg_pl.runs.fine_tuning.run_results import read_run

CLASSES = ("crack", "<script>alert(1)</script> | *seam*")
BEST = "runs/walls/checkpoints/best.ckpt"
THRESHOLDS = ["threshold before", "threshold after"]
CHANGES = ["IoU before", "IoU after", "change", "Dice before", "Dice after", "change"]
ON_VALIDATION = ["best on validation", "0.36", "0.36"]
ON_TEST = ["best on the test photos", "0.48", "0.42"]


def cells(*before):
    """Return the cells of values that have risen by 0.4."""
    return [cell for x in before for cell in (f"{x:.3f}", f"{x + 0.4:.3f}", "+0.400")]


def content(command, checkpoint=None, offset=0.0, **changes):
    """Return a results file of two classes with different numbers in every cell.

    Args:
        command: "fit", "validate" or "test".
        checkpoint: evaluated checkpoint; None for the initial weights.
        offset: added to every IoU.
        changes: replaced keys.
    """
    split = "test" if command == "test" else "val"
    stored = ["stored", "class"] if checkpoint or command == "fit" else []
    best = 0.42 if stored else 0.48
    metrics = {"prompts": 12, "threshold@best": best, "absent_prompts": 7}
    for row, at in enumerate(("0.5", "best", *stored)):
        metrics[f"miou@{at}"] = 0.111 + row / 50 + offset
        metrics[f"dice@{at}"] = 0.222 + row / 50 + offset
        metrics[f"absent_rate@{at}"] = 0.333 - row / 50 - offset / 2
        metrics[f"absent_area@{at}"] = 0.144 - row / 50 - offset / 10
    tables = {
        f"{metric} by threshold": {f"{t / 50:.2f}": 0.3 + offset - t / 500 for t in range(1, 50)}
        for metric in ("miou", "dice")
    }
    groups = {
        "share of the image": ("to 1 %", "1 to 2 %", "above 20 %"),
        "brightness": ("dark (to 85)", "bright (above 170)"),
        "number of objects": ("1", "2", "above 5"),
    }
    for groups_of, names in groups.items():
        for column, metric in enumerate(("miou", "dice")):
            tables[f"{metric}@0.5 by {groups_of}"] = {
                name: 0.1 + place / 10 + column / 100 + offset for place, name in enumerate(names)
            }
        tables[f"prompts by {groups_of}"] = {name: 4 for name in names}
    for at in ("0.5", "best", *stored):
        for column, metric in enumerate(("miou", "dice")):
            tables[f"{metric}@{at} by class"] = {
                name: 0.15 + place / 9 + column / 100 + offset + len(at) / 1000
                for place, name in enumerate(CLASSES)
            }
    tables["prompts by class"] = dict(zip(CLASSES, (5, 7), strict=True))
    tables["best threshold by class"] = dict(zip(CLASSES, (best, best + 0.2), strict=True))
    if stored:
        tables["stored threshold by class"] = dict(zip(CLASSES, (0.34, 0.46), strict=True))
    data = {
        "class_path": "datamodules.image_folder.ImageFolderDataModule",
        "init_args": {
            "root": "walls",
            "batch_size": 4,
            "num_workers": 2,
            "phrases_per_image": 1,
            "prompting": {"negative_prob": 0.2, "supports": False},
            "train": {"table": ["cracks"], "augmentation": None},
        },
    }
    return {
        "metrics": {f"{split}/text/{name}": value for name, value in metrics.items()},
        "report": {f"text: {title}": table for title, table in tables.items()},
        "config": {
            "model": {
                "protocol": {
                    "class_path": "clipseg_pl.protocols.own_data.OwnDataProtocol",
                    "init_args": {"prompt_types": ["text"]},
                },
                "init_decoder": "toy",
            },
            "data": data,
            "ckpt_path": checkpoint,
        },
        "checkpoint": checkpoint,
        "step": 1250 if stored else 0,
        "threshold": 0.36 if stored else 0.3,
        "dataset_sizes": {split: 12},
        "dataset_skipped": {split: {"with polygons of two points": 3}},
        "seconds": 95.0,
        "device": "cpu",
        "data": {
            split: {
                "photos": 1234,
                "without annotations": 56,
                "filled from boxes": 78,
                "phrases": dict(zip(CLASSES, (910, 11), strict=True)),
            }
        },
        "parameters": {"trained": 1_127_009, "total": 150_747_746},
        "peak_memory_bytes": {"gpu": 743_000_000},
        **({} if command == "fit" else {"seconds_per_sample": 0.0384}),
        **changes,
    }


@pytest.fixture
def run(tmp_path):
    """Folder of a run with initial weights, a training, and its evaluated checkpoint."""
    return write_run(tmp_path / "walls")


@pytest.fixture(scope="module")
def reported(tmp_path_factory):
    """Folder of such a run with its report."""
    folder = write_run(tmp_path_factory.mktemp("runs") / "walls")
    main([str(folder)])
    return folder


def write_run(folder):
    """Write the results and pictures of a run, and return its folder."""
    history = {
        "train/loss": [[step, 1 / step] for step in range(10, 1250, 10)],
        "val/text/miou@best": [[step, step / 2000] for step in range(250, 1251, 250)],
    }
    (folder / "examples").mkdir(parents=True)
    examples = []
    for rank, iou in (("best", 0.876), ("worst", 0.012)):
        file = f"examples/{rank}_1.png"
        Image.new("RGB", (90, 30), "grey").save(folder / file)
        examples.append(
            {"photo": "a__1", "phrase": CLASSES[1], "iou": iou, "rank": rank, "file": file}
        )
    add(folder, "test-toy", content("test"))
    add(folder, "fit-x", content("fit", history=history))
    add(folder, "test-best", content("test", BEST, 0.4, examples=examples))
    return folder


def add(folder, name, result):
    """Write a results file that was finished after all others of the run."""
    file = folder / "results" / f"{name}.json"
    file.parent.mkdir(parents=True, exist_ok=True)
    minute = len(list(file.parent.iterdir()))
    finished = {"finished": f"2026-01-31T12:{minute:02}:00.000+00:00"}
    file.write_text(json.dumps(finished | result, sort_keys=True))


def page_of(run):
    """Return the HTML page of a run, written if it does not exist."""
    if not (run / "report.html").exists():
        main([str(run)])
    return (run / "report.html").read_text()


def tables_of(page):
    """Return the tables of a page as lists of rows, by the heading and the caption above them."""
    tables, heading = {}, ""
    for part in re.findall(r"<h2>.*?</h2>|<table>.*?</table>", page, re.S):
        if part.startswith("<h2>"):
            heading = unescape(part[4:-5])
            continue
        caption = re.search("<caption>(.*?)</caption>", part)
        rows = re.findall("<tr>(.*?)</tr>", part)
        cells = [[unescape(cell) for cell in re.findall("<t[hd]>(.*?)</t[hd]>", r)] for r in rows]
        tables.setdefault((heading, unescape(caption[1]) if caption else ""), []).append(cells)
    return tables


def test_overall_numbers_are_those_of_the_results(reported):
    page = page_of(reported)
    assert tables_of(page)["IoU and Dice", ""] == [
        [
            ["", *THRESHOLDS, *CHANGES],
            ["fixed", "0.5", "0.5", "0.111", "0.511", "+0.400", "0.222", "0.622", "+0.400"],
            # the initial weights store no threshold: 0.264 is that of their curves at 0.36
            [*ON_VALIDATION, "0.264", "0.551", "+0.287", "0.264", "0.662", "+0.398"],
            ["best of each class on validation", "", "", "", "0.571", "", "", "0.682", ""],
            [*ON_TEST, "0.131", "0.531", "+0.400", "0.242", "0.642", "+0.400"],
        ]
    ]
    assert "best.ckpt (1,250 training steps)" in page
    assert "12 prompts about the test photos" in page
    assert "IoU at 0.5<b>0.511</b><small>0.111 before</small>" in page
    assert "IoU at 0.36<b>0.551</b><small>0.264 before</small>" in page


def test_numbers_by_class_are_those_of_the_results(reported):
    tables = tables_of(page_of(reported))
    assert tables["Classes", "Threshold 0.5"] == [
        [
            ["class", "prompts", *CHANGES],
            [CLASSES[1], "7", "0.264", "0.664", "+0.400", "0.274", "0.674", "+0.400"],
            [CLASSES[0], "5", "0.153", "0.553", "+0.400", "0.163", "0.563", "+0.400"],
        ]
    ]
    assert tables["Classes", "Best threshold of each class on validation"] == [
        [
            ["class", "prompts", "threshold after", "IoU after", "Dice after"],
            [CLASSES[1], "7", "0.46", "0.666", "0.676"],
            [CLASSES[0], "5", "0.34", "0.555", "0.565"],
        ]
    ]
    assert tables["Classes", "Best threshold of each class on the test photos"] == [
        [
            ["class", "prompts", *THRESHOLDS, *CHANGES],
            [CLASSES[1], "7", "0.68", "0.62", *cells(0.265, 0.275)],
            [CLASSES[0], "5", "0.48", "0.42", *cells(0.154, 0.164)],
        ]
    ]


def test_groups_are_in_their_order_with_counts(reported):
    sizes, brightness, objects = tables_of(page_of(reported))[
        "Size, brightness and number of objects", ""
    ]
    assert sizes == [
        ["share of the image", "prompts", *CHANGES],
        ["to 1 %", "4", *cells(0.1, 0.11)],
        ["1 to 2 %", "4", *cells(0.2, 0.21)],
        ["above 20 %", "4", *cells(0.3, 0.31)],
    ]
    assert [row[0] for row in brightness[1:]] == ["dark (to 85)", "bright (above 170)"]
    assert [row[0] for row in objects[1:]] == ["1", "2", "above 5"]


def test_false_positives_costs_and_data_are_those_of_the_results(reported):
    page = page_of(reported)
    tables = tables_of(page)
    assert "7 prompts name an object that is not in the photo" in page
    assert tables["False positives", ""][0][1:] == [
        ["0.5", "0.333", "0.133", "-0.200", "0.144", "0.104", "-0.040"],
        ["0.36", "", "0.093", "", "", "0.064", ""],
    ]
    costs = dict(tables["Cost", ""][0])
    assert costs["parameters trained"] == "1,127,009 of 150,747,746 (0.7%)"
    assert costs["steps"] == "1,250" and costs["evaluation of a phrase about a photo"] == "38 ms"
    assert costs["peak GPU memory, training"] == "0.74 GB"
    columns = ["split", "photos", "without annotations", "filled from boxes"]
    counts = ["1,234", "56", "78"]
    assert tables["Data", ""] == [[columns, ["val", *counts], ["test", *counts]]]
    assert "156 annotations have a box and no mask" in page and "approximations" in page
    assert "Skipped in test: 3 with polygons of two points." in page
    assert "init_decoder: toy" in page


def test_pictures_have_captions_and_nothing_is_loaded_from_elsewhere(reported):
    page = page_of(reported)
    captions = [unescape(text) for text in re.findall("<figcaption>(.*?)</figcaption>", page)]
    assert captions == [
        f"best, IoU 0.876: {CLASSES[1]} (a__1)",
        f"worst, IoU 0.012: {CLASSES[1]} (a__1)",
    ]
    sources = re.findall(r'(?:src|href)="(.*?)"', page)
    assert sources and all(source.startswith(("data:", "#")) for source in sources)
    assert "@import" not in page and "url(http" not in page


def test_phrases_are_escaped(reported):
    page = page_of(reported)
    assert "<script" not in page and "&lt;script&gt;alert(1)" in page
    text = (reported / "report.md").read_text()
    assert "<script" not in text
    escaped = r"&lt;script&gt;alert(1)&lt;/script&gt; \| \*seam\*"
    assert f"| {escaped} | 7 | 0.264 | 0.664 | +0.400 | 0.274 | 0.674 | +0.400 |" in text


def test_markdown_has_the_tables_of_the_page_and_its_pictures(reported):
    tables = tables_of(page_of(reported))
    text = (reported / "report.md").read_text()
    lines = text.splitlines()
    for table in (rows for found in tables.values() for rows in found):
        row = " | ".join(re.sub(r"([|*_])", r"\\\1", cell) for cell in table[-1])
        assert f"| {row} |".replace("<", "&lt;").replace(">", "&gt;") in lines
    pictures = re.findall(r"\]\((report/.*?\.png)\)", text)
    assert len(pictures) == 2 + 3 + 2 + 2  # thresholds, groups, examples, training
    for picture in pictures:
        Image.open(reported / picture).verify()


def test_report_can_be_written_to_another_folder(run, tmp_path):
    main([str(run), "--out", str(tmp_path / "out")])
    assert {file.name for file in (tmp_path / "out").iterdir()} == {
        *("report.html", "report.md", "report")
    }
    assert not (run / "report.html").exists()


def test_report_without_initial_weights_leaves_their_columns_out(run, capsys):
    (run / "results" / "test-toy.json").unlink()
    page = page_of(run)
    rows = [["", "threshold after", "IoU after", "Dice after"], ["fixed", "0.5", "0.511", "0.622"]]
    assert tables_of(page)["IoU and Dice", ""][0][:2] == rows
    assert "before" not in re.sub(r"<style>.*?</style>", "", page, flags=re.S)
    command = f"python -m clipseg_pl test --config {run}/config.yaml"
    assert command in page and command in capsys.readouterr().out


def test_report_of_a_training_without_evaluation_shows_its_last_validation(run):
    for name in ("test-toy", "test-best"):
        (run / "results" / f"{name}.json").unlink()
    page = page_of(run)
    assert tables_of(page)["IoU and Dice", ""][0][1] == ["fixed", "0.5", "0.111", "0.222"]
    assert "No checkpoint of the training was evaluated" in page
    assert f"--ckpt_path {run}/checkpoints/best.ckpt" in page
    assert f"clipseg_pl validate --config {run}/config.yaml" in page  # of the initial weights


def test_report_without_a_training_says_so(run):
    (run / "results" / "fit-x.json").unlink()
    page = page_of(run)
    assert "The training has no results yet." in page
    assert tables_of(page)["IoU and Dice", ""][0][1][3:5] == ["0.111", "0.511"]


def test_report_names_missing_pictures(run):
    (run / "examples" / "best_1.png").unlink()
    assert "Missing pictures: 1, such as" in page_of(run)


def test_older_results_without_new_keys_have_a_report(run):
    new = ("data", "parameters", "peak_memory_bytes", "seconds_per_sample", "examples", "history")
    for file in (run / "results").iterdir():
        old = {key: value for key, value in json.loads(file.read_text()).items() if key not in new}
        old["report"] = {}
        file.write_text(json.dumps(old))
    assert tables_of(page_of(run))["Data", ""] == [
        [["split", "samples"], ["val", "12"], ["test", "12"]]
    ]


def test_newest_test_of_a_checkpoint_is_compared_with_the_same_data(run):
    add(run, "validate-best", content("validate", BEST, 0.2))
    other = content("test")
    other["config"]["data"]["init_args"]["root"] = "other walls"
    add(run, "test-other-toy", other)
    add(run, "test-elsewhere", content("test", "runs/another/checkpoints/best.ckpt", 0.3))
    add(run, "test-toy-again", content("test", offset=0.05))
    weights = content("test")
    weights["config"]["model"]["init_decoder"] = "rd64"  # not what the training started from
    add(run, "test-rd64", weights)
    elsewhere = content("test", BEST, 0.35)  # the checkpoint on photos of another place
    elsewhere["config"]["data"]["init_args"]["root"] = "other walls"
    add(run, "test-other-best", elsewhere)
    compared = read_run(run).compared
    assert compared.metric("miou", "0.5") == pytest.approx((0.161, 0.511))


@pytest.mark.parametrize(
    "settings",
    [
        {"num_workers": 0},
        {"batch_size": 8},
        {"phrases_per_image": 4},
        {"prompting": {"negative_prob": 0.5, "supports": False}},
        {"train": {"table": ["cracks"], "augmentation": "photometric.yaml"}},
    ],
)
def test_settings_of_the_training_do_not_separate_evaluations(run, settings):
    start = content("test", offset=0.05)
    start["config"]["data"]["init_args"] |= settings
    add(run, "test-toy-again", start)
    compared = read_run(run).compared
    assert compared.metric("miou", "0.5") == pytest.approx((0.161, 0.511))


@pytest.mark.parametrize(
    "settings",
    [
        {"prompting": {"negative_prob": 0.2, "supports": True}},  # other absent prompts are drawn
        {"train": {"table": ["taping"], "augmentation": None}},  # other test photos
    ],
)
def test_settings_of_the_evaluation_separate_evaluations(run, settings):
    start = content("test", offset=0.05)
    start["config"]["data"]["init_args"] |= settings
    add(run, "test-toy-again", start)
    assert read_run(run).compared.metric("miou", "0.5") == pytest.approx((0.111, 0.511))


@pytest.mark.parametrize("name", ["prompts", "absent_prompts"])
def test_evaluation_of_some_of_the_prompts_is_not_compared(run, name):
    start = content("test")
    start["metrics"][f"test/text/{name}"] = 5
    add(run, "test-toy", start)
    found = read_run(run)
    assert found.compared.before is None
    assert found.missing()[0][0].endswith("not evaluated on the same test photos and prompts.")


def test_evaluation_by_another_first_prompt_type_is_not_compared(run):
    start = content("test")
    start["metrics"] |= {f"test/visual/{name}": 12 for name in ("prompts", "absent_prompts")}
    start["config"]["model"]["protocol"]["init_args"]["prompt_types"] = ["visual", "text"]
    add(run, "test-toy", start)
    assert read_run(run).compared.before is None


def test_evaluation_from_before_the_end_of_the_training_is_noted(run):
    assert read_run(run).missing() == []
    add(run, "fit-x", content("fit"))
    ((text, command),) = read_run(run).missing()
    assert "older than the end of the training" in text
    assert command.startswith("python -m clipseg_pl test ") and command.endswith("best.ckpt")


def test_report_of_a_test_on_the_validation_photos_says_so(run):
    for name in ("test-toy", "test-best"):
        file = run / "results" / f"{name}.json"
        found = json.loads(file.read_text())
        found["data"]["test"]["same photos as"] = "val"
        file.write_text(json.dumps(found))
    page = page_of(run)
    assert "12 prompts about the validation photos" in page
    assert "There are no test photos" in page and "the test" not in page
    assert tables_of(page)["IoU and Dice", ""][0][-1][0] == "best on the validation photos"


def test_run_with_another_protocol_is_rejected_on_one_line(run):
    other = content("fit")
    other["config"]["model"]["protocol"]["class_path"] = "clipseg_pl.protocols.a.PaperProtocol"
    add(run, "fit-x", other)
    with pytest.raises(SystemExit, match=r"PaperProtocol, but the report needs OwnData[^\n]*$"):
        main([str(run)])


def test_evaluation_by_another_protocol_is_left_out(run):
    other = content("test", BEST, 0.2)
    other["config"]["model"]["protocol"]["class_path"] = "clipseg_pl.protocols.a.PaperProtocol"
    add(run, "test-paper", other)
    assert read_run(run).compared.metric("miou", "0.5") == pytest.approx((0.111, 0.511))


def test_validation_is_compared_without_a_test(run):
    (run / "results" / "test-best.json").unlink()
    add(run, "validate-best", content("validate", BEST, 0.2))
    compared = read_run(run).compared
    assert compared.after.metric("miou@0.5") == pytest.approx(0.311)
    assert compared.before is None  # the initial weights were evaluated on the test photos only


def test_command_for_the_initial_weights_does_not_resume(run):
    (run / "results" / "test-toy.json").unlink()
    add(run, "fit-x", content("fit", checkpoint="runs/walls/checkpoints/last.ckpt"))
    (_, command), *_ = read_run(run).missing()
    assert command.endswith("config.yaml --ckpt_path null")


def test_training_from_random_weights_has_no_start_to_evaluate(run):
    (run / "results" / "test-toy.json").unlink()
    result = content("fit")
    result["config"]["model"]["init_decoder"] = None
    add(run, "fit-x", result)
    assert read_run(run).missing() == [("The training started from random weights.", "")]


def test_folder_without_results_is_rejected_on_one_line(tmp_path):
    with pytest.raises(SystemExit, match=r"has no results of fit, validate or test; [^\n]*$"):
        main([str(tmp_path)])
    with pytest.raises(SystemExit, match="no such folder"):
        main([str(tmp_path / "nothing")])


def test_invalid_results_are_rejected_by_name(run):
    (run / "results" / "test-broken.json").write_text("{")
    with pytest.raises(SystemExit, match=r"test-broken\.json: not a results file"):
        main([str(run)])
