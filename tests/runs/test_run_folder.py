"""One run, one folder: going on, moving, and never mixing two."""

import json
import shutil

import pytest
import torch

from tests.command import arguments, run
from tests.miniature import write_miniature


def test_evaluation_in_the_runs_own_folder_leaves_its_files_alone(trained, miniature, tmp_path):
    folder = tmp_path / "copy"
    shutil.copytree(trained, folder)
    before = {file.name: file.read_bytes() for file in folder.iterdir() if file.is_file()}
    checkpoint = f"--ckpt_path={folder / 'checkpoints' / 'last.ckpt'}"
    args = arguments("validate", miniature, folder, checkpoint)
    run(*(arg for arg in args if "default_root_dir" not in arg))  # the checkpoint's folder
    after = {file.name: file.read_bytes() for file in folder.iterdir() if file.is_file()}
    assert after == before and "metrics.csv" in before
    names = {file.name for file in (folder / "results").iterdir()}
    assert names == {"fit-pc_plus.json", "validate-pc_plus-last.json"}


@pytest.mark.slow
def test_masks_of_two_predictions_are_not_mixed(trained, miniature, tmp_path, capsys):
    args = arguments(
        *("predict", miniature, tmp_path, f"--ckpt_path={trained / 'checkpoints' / 'best.ckpt'}"),
        "--trainer.limit_predict_batches=1",
    )
    run(*args)
    run(*args, "--model.protocol.init_args.readings=[visual]")
    assert len(list((tmp_path / "predictions").iterdir())) == 2
    with pytest.raises(SystemExit):
        run(*args)
    assert "holds masks already" in capsys.readouterr().err


def test_a_used_folder_is_refused_and_last_goes_on(trained, miniature, tmp_path, capsys):
    folder = tmp_path / "copy"
    shutil.copytree(trained, folder)
    with pytest.raises(SystemExit):
        run(*arguments("fit", miniature, folder))
    assert "holds a run already" in capsys.readouterr().err
    run(*arguments("fit", miniature, folder, "--ckpt_path=last", "--trainer.max_steps=5"))
    content = torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True)
    assert content["global_step"] == 5
    assert (folder / "metrics_before_1.csv").exists() and (folder / "metrics.csv").exists()


def test_a_used_folder_without_checkpoints_is_refused(miniature, tmp_path, capsys):
    args = arguments("fit", miniature, tmp_path, "--trainer.enable_checkpointing=false")
    run(*args)
    before = {file: file.read_bytes() for file in tmp_path.rglob("*") if file.is_file()}
    capsys.readouterr()
    with pytest.raises(SystemExit):
        run(*args)
    said = capsys.readouterr().err
    assert "holds a run already: remove it, or set another --trainer.default_root_dir" in said
    assert {file: file.read_bytes() for file in tmp_path.rglob("*") if file.is_file()} == before


@pytest.mark.slow
def test_an_evaluation_or_an_unfinished_training_does_not_bar_a_folder(
    decoder_file, miniature, tmp_path
):
    run(*arguments("validate", miniature, tmp_path, f"--model.init_decoder={decoder_file}"))
    (tmp_path / "config.yaml").write_text("")
    (tmp_path / "metrics.csv").write_text("step\n")
    run(*arguments("fit", miniature, tmp_path, "--trainer.enable_checkpointing=false"))
    assert (tmp_path / "metrics_before_1.csv").read_text() == "step\n"


def test_a_finished_run_has_nothing_to_go_on_with(trained, miniature, tmp_path, capsys):
    folder = tmp_path / "copy"
    shutil.copytree(trained, folder)
    before = {file: file.read_bytes() for file in folder.rglob("*") if file.is_file()}
    with pytest.raises(SystemExit):
        run(*arguments("fit", miniature, folder, "--ckpt_path=last"))
    assert "has taken 3 of 3 steps" in capsys.readouterr().err
    assert {file: file.read_bytes() for file in folder.rglob("*") if file.is_file()} == before


def test_a_run_is_not_gone_on_with_in_the_folder_of_another(trained, miniature, tmp_path, capsys):
    folder = tmp_path / "copy"
    shutil.copytree(trained, folder)
    checkpoint = f"--ckpt_path={trained / 'checkpoints' / 'last.ckpt'}"
    with pytest.raises(SystemExit):
        run(*arguments("fit", miniature, folder, checkpoint, "--trainer.max_steps=5"))
    assert "holds a run already" in capsys.readouterr().err


@pytest.mark.parametrize("moved", [pytest.param(False, marks=pytest.mark.slow), True])
def test_going_on_keeps_the_best_until_there_is_a_better(trained, miniature, tmp_path, moved):
    """The best score is raised in `last`, so that no further step can reach it."""
    folder = tmp_path / ("elsewhere" if moved else "copy")
    shutil.copytree(trained, folder)
    last = folder / "checkpoints" / "last.ckpt"
    content = torch.load(last, weights_only=True)
    name, state = next(item for item in content["callbacks"].items() if item[1].get("monitor"))
    assert name.startswith("Checkpoint{'monitor'")  # as in checkpoints of earlier versions
    best = torch.load(folder / "checkpoints" / "best.ckpt", weights_only=True)
    known = next(s for s in best["callbacks"].values() if s.get("monitor"))
    assert state["best_model_score"] == known["best_model_score"]  # `last` knows the newest best
    state["best_model_score"] = torch.tensor(0.99)
    state["best_k_models"] = {key: torch.tensor(0.99) for key in state["best_k_models"]}
    state["kth_value"] = torch.tensor(0.99)
    if not moved:
        name = str(folder / "checkpoints" / "best.ckpt")
        state.update(best_model_path=name, kth_best_model_path=name, dirpath=str(last.parent))
        state["best_k_models"] = {name: torch.tensor(0.99)}
    torch.save(content, last)
    before = (folder / "checkpoints" / "best.ckpt").read_bytes()
    run(*arguments("fit", miniature, folder, "--ckpt_path=last", "--trainer.max_steps=5"))
    assert (folder / "checkpoints" / "best.ckpt").read_bytes() == before
    assert torch.load(last, weights_only=True)["global_step"] == 5


@pytest.mark.slow
def test_where_the_best_was_removed_the_next_one_is_saved(trained, miniature, tmp_path):
    folder = tmp_path / "copy"
    shutil.copytree(trained, folder)
    best, last = (folder / "checkpoints" / f"{name}.ckpt" for name in ("best", "last"))
    best.unlink()
    content = torch.load(last, weights_only=True)
    state = next(s for s in content["callbacks"].values() if s.get("monitor"))
    name, score = str(best), torch.tensor(0.99)  # which no step can reach
    state.update(best_model_path=name, kth_best_model_path=name, dirpath=str(best.parent))
    state.update(best_model_score=score, kth_value=score, best_k_models={name: score})
    torch.save(content, last)
    run(*arguments("fit", miniature, folder, "--ckpt_path=last", "--trainer.max_steps=5"))
    assert torch.load(best, weights_only=True)["global_step"] in (4, 5)


@pytest.mark.slow
def test_what_was_killed_in_its_first_saving_leaves_nothing_in_the_way(miniature, tmp_path):
    checkpoints = tmp_path / "checkpoints"
    checkpoints.mkdir()
    (checkpoints / ".last.ckpt.77.tmp").write_bytes(b"half")
    run(*arguments("fit", miniature, tmp_path))
    assert {file.name for file in checkpoints.iterdir()} == {"best.ckpt", "last.ckpt"}


@pytest.mark.slow
@pytest.mark.parametrize("changed", ["config", "checkpoint", "data"])
def test_another_evaluation_does_not_replace_the_results(trained, miniature, tmp_path, changed):
    checkpoint, folder = tmp_path / "run" / "best.ckpt", tmp_path / "evaluations"
    checkpoint.parent.mkdir()
    shutil.copyfile(trained / "checkpoints" / "best.ckpt", checkpoint)
    args = arguments("validate", miniature, folder, f"--ckpt_path={checkpoint}")
    other = {
        "config": ["--data.init_args.rasterizer=pil"],
        "checkpoint": [f"--ckpt_path={tmp_path / 'other' / 'best.ckpt'}"],
        "data": [f"--data.init_args.root={tmp_path / 'elsewhere'}"],
    }[changed]
    if changed == "checkpoint":
        content = torch.load(checkpoint, weights_only=True)
        for weight in content["state_dict"].values():
            weight += 0.1
        (tmp_path / "other").mkdir()
        torch.save(content, tmp_path / "other" / "best.ckpt")
    elif changed == "data":
        write_miniature(tmp_path / "elsewhere", {"train": 2, "val": 2, "test": 2, "miniv": 2})
    kept = []
    for more in ([], other, []):
        run(*args, *more)
        kept.append({file.name: json.loads(file.read_text()) for file in results_of(folder)})
    assert list(kept[1]) == list(kept[2]) and len(kept[1]) == 2
    first, second = sorted(kept[2], key=len)
    assert second == f"{first[:-5]}-{kept[2][second]['identity'][:8]}.json"
    assert kept[2][first]["metrics"] == kept[0][first]["metrics"]
    assert kept[2][second]["metrics"] == kept[1][second]["metrics"]
    assert len(list((folder / "panels").iterdir())) == 2


def results_of(folder):
    return sorted((folder / "results").iterdir())


def test_last_with_nothing_there_is_an_error(miniature, tmp_path, capsys):
    with pytest.raises(SystemExit):
        run(*arguments("fit", miniature, tmp_path / "new", "--ckpt_path=last"))
    assert "no checkpoint" in capsys.readouterr().err
    assert not (tmp_path / "new").exists()
