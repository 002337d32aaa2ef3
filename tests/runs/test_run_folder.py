"""Run folders: resuming, moving, and never mixing two runs."""

import json
import shutil

import pytest
import torch

from tests.command import arguments, run
from tests.miniature import write_miniature


def test_evaluation_in_the_runs_folder_keeps_its_files(trained, miniature, tmp_path):
    folder = tmp_path / "copy"
    shutil.copytree(trained, folder)
    before = {file.name: file.read_bytes() for file in folder.iterdir() if file.is_file()}
    checkpoint = f"--ckpt_path={folder / 'checkpoints' / 'last.ckpt'}"
    args = arguments("validate", miniature, folder, checkpoint)
    run(*(arg for arg in args if "default_root_dir" not in arg))  # uses the checkpoint's folder
    after = {file.name: file.read_bytes() for file in folder.iterdir() if file.is_file()}
    assert after == before and "metrics.csv" in before
    names = {file.name for file in (folder / "results").iterdir()}
    assert names == {"fit-pc_plus.json", "validate-pc_plus-last.json"}


@pytest.mark.slow
def test_predict_does_not_mix_masks_of_two_runs(trained, miniature, tmp_path, capsys):
    args = arguments(
        *("predict", miniature, tmp_path, f"--ckpt_path={trained / 'checkpoints' / 'best.ckpt'}"),
        "--trainer.limit_predict_batches=1",
    )
    run(*args)
    run(*args, "--model.protocol.init_args.prompt_types=[visual]")
    assert len(list((tmp_path / "predictions").iterdir())) == 2
    with pytest.raises(SystemExit):
        run(*args)
    assert "already contains masks" in capsys.readouterr().err


def test_fit_rejects_a_used_folder_and_resumes_from_last(trained, miniature, tmp_path, capsys):
    folder = tmp_path / "copy"
    shutil.copytree(trained, folder)
    with pytest.raises(SystemExit):
        run(*arguments("fit", miniature, folder))
    message = capsys.readouterr().err
    assert "already contains a run: resume it with --ckpt_path last, remove it" in message
    run(*arguments("fit", miniature, folder, "--ckpt_path=last", "--trainer.max_steps=5"))
    content = torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True)
    assert content["global_step"] == 5
    assert (folder / "metrics_before_1.csv").exists() and (folder / "metrics.csv").exists()


def test_fit_rejects_a_used_folder_without_checkpoints(miniature, tmp_path, capsys):
    args = arguments("fit", miniature, tmp_path, "--trainer.enable_checkpointing=false")
    run(*args)
    before = {file: file.read_bytes() for file in tmp_path.rglob("*") if file.is_file()}
    capsys.readouterr()
    with pytest.raises(SystemExit):
        run(*args)
    message = capsys.readouterr().err
    assert "already contains a run: remove it, or set another --trainer.default_root" in message
    assert {file: file.read_bytes() for file in tmp_path.rglob("*") if file.is_file()} == before


@pytest.mark.slow
def test_fit_accepts_a_folder_with_an_evaluation_or_an_unfinished_training(
    decoder_file, miniature, tmp_path
):
    run(*arguments("validate", miniature, tmp_path, f"--model.init_decoder={decoder_file}"))
    (tmp_path / "config.yaml").write_text("")
    (tmp_path / "metrics.csv").write_text("step\n")
    run(*arguments("fit", miniature, tmp_path, "--trainer.enable_checkpointing=false"))
    assert (tmp_path / "metrics_before_1.csv").read_text() == "step\n"


def test_resuming_a_finished_run_is_an_error(trained, miniature, tmp_path, capsys):
    folder = tmp_path / "copy"
    shutil.copytree(trained, folder)
    before = {file: file.read_bytes() for file in folder.rglob("*") if file.is_file()}
    with pytest.raises(SystemExit):
        run(*arguments("fit", miniature, folder, "--ckpt_path=last"))
    assert "has already taken 3 of 3 steps" in capsys.readouterr().err
    assert {file: file.read_bytes() for file in folder.rglob("*") if file.is_file()} == before


def test_resuming_in_the_folder_of_another_run_is_an_error(trained, miniature, tmp_path, capsys):
    folder = tmp_path / "copy"
    shutil.copytree(trained, folder)
    checkpoint = f"--ckpt_path={trained / 'checkpoints' / 'last.ckpt'}"
    with pytest.raises(SystemExit):
        run(*arguments("fit", miniature, folder, checkpoint, "--trainer.max_steps=5"))
    assert "already contains a run" in capsys.readouterr().err


@pytest.mark.parametrize("moved", [pytest.param(False, marks=pytest.mark.slow), True])
def test_resuming_keeps_the_best_checkpoint_until_a_better_one(trained, miniature, tmp_path, moved):
    """The best score in `last` is set so high that no further step can reach it."""
    folder = tmp_path / ("elsewhere" if moved else "copy")
    shutil.copytree(trained, folder)
    last = folder / "checkpoints" / "last.ckpt"
    content = torch.load(last, weights_only=True)
    name, state = next(item for item in content["callbacks"].items() if item[1].get("monitor"))
    assert name.startswith("Checkpoint{'monitor'")  # like in checkpoints of earlier versions
    best = torch.load(folder / "checkpoints" / "best.ckpt", weights_only=True)
    best_state = next(s for s in best["callbacks"].values() if s.get("monitor"))
    assert state["best_model_score"] == best_state["best_model_score"]  # `last` is up to date
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
def test_resuming_saves_a_best_checkpoint_if_it_was_removed(trained, miniature, tmp_path):
    folder = tmp_path / "copy"
    shutil.copytree(trained, folder)
    best, last = (folder / "checkpoints" / f"{name}.ckpt" for name in ("best", "last"))
    best.unlink()
    content = torch.load(last, weights_only=True)
    state = next(s for s in content["callbacks"].values() if s.get("monitor"))
    name, score = str(best), torch.tensor(0.99)  # no step can reach this score
    state.update(best_model_path=name, kth_best_model_path=name, dirpath=str(best.parent))
    state.update(best_model_score=score, kth_value=score, best_k_models={name: score})
    torch.save(content, last)
    run(*arguments("fit", miniature, folder, "--ckpt_path=last", "--trainer.max_steps=5"))
    assert torch.load(best, weights_only=True)["global_step"] in (4, 5)


@pytest.mark.slow
def test_fit_removes_unfinished_files_of_a_killed_run(miniature, tmp_path):
    checkpoints = tmp_path / "checkpoints"
    checkpoints.mkdir()
    (checkpoints / ".last.ckpt.77.tmp").write_bytes(b"unfinished")
    run(*arguments("fit", miniature, tmp_path))
    assert {file.name for file in checkpoints.iterdir()} == {"best.ckpt", "last.ckpt"}


@pytest.mark.slow
@pytest.mark.parametrize("changed", ["config", "checkpoint", "data"])
def test_other_evaluation_does_not_replace_results(trained, miniature, tmp_path, changed):
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
    stored = []
    for more in ([], other, []):
        run(*args, *more)
        stored.append({file.name: json.loads(file.read_text()) for file in results_of(folder)})
    assert list(stored[1]) == list(stored[2]) and len(stored[1]) == 2
    first, second = sorted(stored[2], key=len)
    assert second == f"{first[:-5]}-{stored[2][second]['identity'][:8]}.json"
    assert stored[2][first]["metrics"] == stored[0][first]["metrics"]
    assert stored[2][second]["metrics"] == stored[1][second]["metrics"]
    assert len(list((folder / "panels").iterdir())) == 2


def results_of(folder):
    return sorted((folder / "results").iterdir())


def test_resuming_from_a_missing_last_checkpoint_is_an_error(miniature, tmp_path, capsys):
    with pytest.raises(SystemExit):
        run(*arguments("fit", miniature, tmp_path / "new", "--ckpt_path=last"))
    assert "no checkpoint" in capsys.readouterr().err
    assert not (tmp_path / "new").exists()
