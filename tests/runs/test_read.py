"""Reading of experiments/tables.yaml."""

import sys
from itertools import pairwise

import pytest
import yaml

from clipseg_pl.cli.resolve import resolve
from clipseg_pl.prompts.visual import TABLE_2
from clipseg_pl.protocols.alignment import LARGE, MASKINGS
from clipseg_pl.runs.tables.plan import WORLDS, alignment
from clipseg_pl.runs.tables.read import read_plan
from tests.command import EXPERIMENTS

FILE = EXPERIMENTS / "tables.yaml"


@pytest.fixture(scope="module", params=WORLDS)
def plan(request):
    return read_plan(FILE, request.param)


@pytest.fixture
def toy():
    return read_plan(FILE, "toy")


def test_config_files_of_all_runs_exist(plan):
    for evaluation in plan.evaluations():
        for config in (*evaluation.configs, *evaluation.training.configs):
            assert (EXPERIMENTS / config).is_file()


@pytest.mark.slow
def test_command_line_accepts_every_kind_of_run(toy, monkeypatch):
    """Resolves one run per combination of overlays and keys, whatever their values."""
    monkeypatch.setattr(sys, "argv", ["clipseg_pl"])
    evaluations = [e for e in toy.evaluations() if e.training.configs]
    runs = {*evaluations, *(evaluation.training for evaluation in evaluations)}
    kinds = {
        (
            type(run),
            tuple(c.rstrip("0123456789.yaml_") for c in run.configs),
            tuple(dict(run.settings)),
        ): run
        for run in sorted(runs, key=lambda run: run.name)
    }
    assert 40 < len(kinds) < 80
    for run in kinds.values():
        config = resolve(run.arguments(EXPERIMENTS))
        assert config["model"]["backbone"]["init_args"]["name"] == "toy2"


def test_equal_runs_of_several_tables_are_listed_once(toy):
    plain = toy.row("T9", "CLIPSeg (PC+)")
    assert [[len(fold) for fold in seed] for seed in plain.seeds] == [[2], [2], [2]]
    assert plain.seeds[0][0][0] == toy.row("T3", "CLIPSeg (PC+)").seeds[0][0][0]
    assert plain.seeds[1][0][0].training.name == "pc_plus+seed=1"
    evaluations = toy.evaluations()
    assert len(set(evaluations)) == len(evaluations)
    trainings = [evaluation.training for evaluation in evaluations]
    changes = sum(one != other for one, other in pairwise(trainings))
    assert changes == len(set(trainings)) - 1  # evaluations are grouped by training
    assert len({training.name for training in trainings}) == len(set(trainings))


def test_first_seed_of_all_rows_comes_first(toy):
    seeds = [dict(e.training.settings).get("seed_everything", 0) for e in toy.evaluations()]
    assert seeds == sorted(seeds) and set(seeds) == {0, 1, 2}


@pytest.mark.parametrize(
    ("world", "rate", "ending"), [("toy", 0.001, ""), ("paper", 0.0003, "+lr=0.0003")]
)
def test_settings_of_the_world_replace_those_of_a_row(world, rate, ending):
    row = read_plan(FILE, world).row("T9", "no CLIP pre-training")
    training = row.seeds[0][0][0].training
    assert training.name == f"pc_plus+no_clip_pretraining{ending}"
    options = training.arguments(EXPERIMENTS)
    assert [o for o in options if ".lr=" in o] == [f"--model.optimizer.init_args.lr={rate}"]


def test_fold_placeholders_are_filled_in(toy):
    (seed,) = toy.row("T6", "CLIPSeg (COCO+N)").seeds
    for fold, (evaluation,) in enumerate(seed):
        assert dict(evaluation.settings) == {"data.init_args.fold": fold}
        assert dict(evaluation.training.settings)["data.init_args.fold"] == fold
    seed, *more = toy.row("T5", "CLIPSeg (PC+)").seeds
    assert len(more) == 2  # the row has its own number of seeds
    names = [evaluation.training.configs[1] for (evaluation,) in seed]
    assert names == [f"data/without_fold_{fold}.yaml" for fold in range(4)]


def test_rows_of_one_world_are_left_out_of_the_other(toy):
    (sizes,) = (table for table in toy.tables if table.key == "F5")
    assert [row.name for row in sizes.rows] == ["48", "64", "80", "96", "112", "128"]


def test_figures_of_the_paper_are_assigned_to_columns(plan):
    figures = {"mIoU": 43.4, "IoU_FG": 54.7, "AP": 76.7}
    assert plan.row("T3", "CLIPSeg (PC+)").paper == figures
    assert "visual AP" not in plan.row("T9", "no CLIP pre-training").paper
    assert plan.row("T5", "ViTSeg (PC+)").columns["mIoU"] == "visual/miou@0.2"
    for table in plan.tables:
        for row in table.rows:
            assert list(row.columns) == table.columns and row.paper.keys() <= row.columns.keys()


def changed_claim(tmp_path, **values):
    """Return a copy of tables.yaml in which the first claim is changed; None removes a key."""
    content = yaml.safe_load(FILE.read_text())
    claim = {**content["claims"][0], **values}
    content["claims"][0] = {key: value for key, value in claim.items() if value is not None}
    (tmp_path / "tables.yaml").write_text(yaml.safe_dump(content))
    return tmp_path / "tables.yaml"


@pytest.mark.parametrize(("world", "expected"), [("toy", "it is small"), ("paper", "")])
def test_reason_for_a_failing_claim_belongs_to_a_world(tmp_path, world, expected):
    file = changed_claim(tmp_path, why={"toy": "it is small"}, share=0.5)
    claim, *others = read_plan(file, world).claims
    written = yaml.safe_load(FILE.read_text())["claims"][1:]
    assert (claim.why, claim.share) == (expected, 0.5)
    assert [other.why for other in others] == [
        other.get("why", {}).get(world, "") for other in written
    ]
    assert [other.share for other in others] == [other.get("share", 1) for other in written]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"wy": {}}, "claim 'CLIP .*': unknown key wy; expected left, right, says, share, why"),
        ({"left": None}, "claim 'CLIP .*': missing key left"),
        ({"says": None}, "claim '': missing key says"),
        ({"why": {"tyo": ""}}, "why of claim 'CLIP .*': unknown key tyo; expected paper, toy"),
        ({"left": ["T9", "all", "mIoU"]}, "no row 'all' in table T9"),
        ({"left": ["T2", "crop", "mIoU"]}, "claim 'CLIP .*': 'crop' in T2 has no column mIoU"),
    ],
)
def test_invalid_claim_raises(tmp_path, values, message):
    with pytest.raises(ValueError, match=message):
        read_plan(changed_claim(tmp_path, **values), "toy")


def test_every_alignment_result_has_a_row(toy):
    (table,) = (table for table in toy.tables if table.key == "T2")
    assert {row.name for row in table.rows} == {*TABLE_2, *MASKINGS, LARGE}
    seeds = tuple(((alignment(seed),),) for seed in range(3))
    assert {row.seeds for row in table.rows} == {seeds}


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        (
            ("rows", "CLIPSeg (PC)", "trainings"),
            [],
            r"row 'CLIPSeg \(PC\)': unknown key trainings",
        ),
        (("setings",), {}, "table T3: unknown key setings; expected benchmarks"),
        (("columns",), None, "table T3: missing key columns"),
        (("rows", "CLIPSeg (PC)", "training"), None, r"row 'CLIPSeg \(PC\)': missing key training"),
        (("rows", "CLIPSeg (PC)", "paper"), [1] * 6, "paper lists 6 numbers for 5 columns"),
        (("title",), None, "table T3: missing key title"),
        (("seeds",), {"tyo": 3}, "seeds of table T3: unknown key tyo; expected paper, toy"),
        (("rows", "CLIPSeg (PC)", "seeds"), {"tyo": 3}, r"seeds of row .*: unknown key tyo"),
        (("rows", "CLIPSeg (PC)", "world"), "tyo", r"row .*: world must be one of toy, paper"),
        (
            ("rows", "CLIPSeg (PC)", "columns"),
            {"miou": "text/miou@0.1"},
            r"columns of row 'CLIPSeg \(PC\)': unknown key miou; expected AP, IoU_FG",
        ),
    ],
)
def test_invalid_entry_raises(tmp_path, path, value, message):
    content = yaml.safe_load(FILE.read_text())
    node = content["tables"]["T3"]
    for key in path[:-1]:
        node = node[key]
    if value is None:
        del node[path[-1]]
    else:
        node[path[-1]] = value
    (tmp_path / "tables.yaml").write_text(yaml.safe_dump(content))
    with pytest.raises(ValueError, match=message):
        read_plan(tmp_path / "tables.yaml", "toy")


@pytest.mark.parametrize(
    ("path", "message"),
    [
        (("tables", "T2", "column"), "table T2: unknown key column"),
        (("worlds", "toy", "training_setings"), "world toy: unknown key training_setings"),
        (("worlds", "tyo"), "worlds: unknown key tyo; expected paper, toy"),
        (("table",), "tables.yaml: unknown key table; expected claims, tables, worlds"),
    ],
)
def test_unknown_key_outside_the_tables_of_trainings_raises(tmp_path, path, message):
    content = yaml.safe_load(FILE.read_text())
    node = content
    for key in path[:-1]:
        node = node[key]
    node[path[-1]] = {}
    (tmp_path / "tables.yaml").write_text(yaml.safe_dump(content))
    with pytest.raises(ValueError, match=message):
        read_plan(tmp_path / "tables.yaml", "toy")


def test_table_without_rows_in_a_world_is_left_out_of_it(tmp_path):
    content = yaml.safe_load(FILE.read_text())
    for row in content["tables"]["F5"]["rows"].values():
        row["world"] = "toy"
    (tmp_path / "tables.yaml").write_text(yaml.safe_dump(content))
    keys = {
        world: {table.key for table in read_plan(tmp_path / "tables.yaml", world).tables}
        for world in WORLDS
    }
    assert keys["toy"] - keys["paper"] == {"F5"}


def test_benchmarks_of_a_row_replace_those_of_its_table(tmp_path):
    content = yaml.safe_load(FILE.read_text())
    table = {"title": "S", "columns": {"mIoU": "text/miou"}, "benchmarks": ["voc_20"]}
    rows = {"one": {"training": []}, "two": {"training": [], "benchmarks": ["voc_21"]}}
    content |= {"tables": {"S": {**table, "rows": rows}}, "claims": []}
    (tmp_path / "tables.yaml").write_text(yaml.safe_dump(content))
    one, two = read_plan(tmp_path / "tables.yaml", "paper").tables[0].rows
    (((first,),),), (((second,),),) = one.seeds, two.seeds
    assert first.configs[-1] == "benchmarks/voc_20.yaml"
    assert second.configs[-1] == "benchmarks/voc_21.yaml"
