"""What the command line refuses, in one line that says what to do."""

import os
import shutil
from functools import partial

import pytest
import torch
from jsonargparse import Namespace

from clipseg_pl.cli.arguments import check_trainer
from clipseg_pl.models.backbone import BackboneShape
from clipseg_pl.models.decoder import FiLMDecoder
from datamodules.phrasecut import PhraseCutDataModule
from tests.command import EXPERIMENTS, arguments, results, run


@pytest.mark.parametrize("verb", ["validate", "test", "predict"])
def test_evaluation_without_weights_is_refused(miniature, tmp_path, capsys, verb):
    with pytest.raises(SystemExit):
        run(*arguments(verb, miniature, tmp_path / "new"))
    assert f"{verb} needs weights: --ckpt_path" in capsys.readouterr().err
    assert not (tmp_path / "new").exists()


def test_a_decoder_that_does_not_fit_is_refused_in_one_line(
    decoder_file, miniature, tmp_path, capsys
):
    more = (f"--model.init_decoder={decoder_file}", "--model.decoder.init_args.dim=16")
    with pytest.raises(SystemExit):
        run(*arguments("fit", miniature, tmp_path / "new", *more))
    said = capsys.readouterr().err.strip()
    assert f"{decoder_file}: D is 64 in the file and 16 in the model" in said and "\n" not in said


@pytest.mark.parametrize("name", ["cut.ckpt", "text.ckpt", "other.ckpt"])
def test_what_is_no_checkpoint_is_refused_by_name(trained, miniature, tmp_path, capsys, name):
    whole = (trained / "checkpoints" / "best.ckpt").read_bytes()
    (tmp_path / "cut.ckpt").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "text.ckpt").write_text("no checkpoint")
    torch.save({"weight": torch.zeros(1)}, tmp_path / "other.ckpt")
    with pytest.raises(SystemExit):
        run(*arguments("validate", miniature, tmp_path / "new", f"--ckpt_path={tmp_path / name}"))
    said = capsys.readouterr().err.strip()
    assert f"{tmp_path / name}: not a checkpoint" in said and "\n" not in said


@pytest.mark.slow
def test_a_photo_that_a_worker_cannot_read_is_named_in_one_line(
    trained, miniature, tmp_path, capsys
):
    root = tmp_path / "data"
    shutil.copytree(miniature, root)
    photos = root / "VGPhraseCut_v0" / "images"
    checkpoint = f"--ckpt_path={trained / 'checkpoints' / 'best.ckpt'}"
    run(*arguments("validate", root, tmp_path / "whole", checkpoint))  # builds the index
    capsys.readouterr()
    for photo in photos.iterdir():
        os.truncate(photo, photo.stat().st_size // 2)
    more = (checkpoint, "--data.init_args.num_workers=1")
    with pytest.raises(SystemExit):
        run(*arguments("validate", root, tmp_path / "cut", *more))
    lines = [line for line in capsys.readouterr().err.splitlines() if "clipseg_pl:" in line]
    assert len(lines) == 1 and f"clipseg_pl: {photos}" in lines[0] and ".jpg: cannot" in lines[0]


@pytest.mark.parametrize(
    ("option", "answer"),
    [
        ("--model.decoder.init_args.dimm=3", "Did you mean dim?"),
        ("--dim=3", "Did you mean model.decoder.init_args.dim?"),
        ("--modle.min_lr=3", "Did you mean model.min_lr?"),
        ("--model.decoder.init_args.batch_size=3", "Did you mean data.init_args.batch_size?"),
        ("--model.decoder.init_args.dmi=3", "Did you mean dim?"),
        ("--model.decoder.init_args.reduce_dim=3", "Did you mean dim?"),
        ("--model.decoder.init_args.hidden=3", "this class takes dim, dropout, feedforward, head"),
        ("--hidden=3", "Did you mean model.decoder.init_args.hidden of DeconvDecoder?"),
        ("--data.init_args.fold=0", "this class takes batch_size, exclusion, image_size"),
        ("--data.init_args.prompting.foo=3", "prompting takes blank_support, evaluation_form"),
        ("--model.foo=3", "model takes backbone, compile, decoder"),
        ("--data.init_args.prompting.negativ_prob=0.5", "Did you mean prompting.negative_prob?"),
        ("--trainer.max_step=3", "Did you mean trainer.max_steps?"),
        ("--model.decoder.init_args.dim=abc", "Expected a <class 'int'>"),
        ("--model.decoder.init_args.layers=[3,77]", "0 to 11"),
        ("--model.backbone.init_args.name=nothing", "unknown CLIP 'nothing'"),
        ("--data.init_args.root=/nowhere", "missing photos in images/, image_data_split.json"),
        ("--data.init_args.image_size=60", "image_size 48 or 64, or other multiples of 16"),
        ("--data.init_args.image_size=9", "image_size 16, or other"),
        ("--data.init_args.prompting.text_weight_max=2", "text_weight_min <= text_weight_max"),
        ("--trainer.max_steps=0", "set --trainer.max_steps to at least 1, not 0"),
        ("--trainer.strategy=nothing", "invalid strategy name: `strategy='nothing'`"),
        ("--trainer.accelerator=nothing", "invalid accelerator name: `accelerator='nothing'`"),
        ("--data.init_args.num_workers=-1", "num_workers must be >= 0, not -1"),
        ("--trainer.default_root_dir=/proc/new", "clipseg_pl: /proc/new: "),
        ("--model.decoder.init_args.heads=5", "heads do not divide"),
        ("--trainer.limit_val_batches=-1", "for limit_val_batches, it has to be in [0.0, 1.0]"),
    ],
)
def test_mistakes_are_one_line_that_says_what_to_do(miniature, tmp_path, capsys, option, answer):
    with pytest.raises(SystemExit) as stopped:
        run(*arguments("fit", miniature, tmp_path / "new", option))
    assert stopped.value.code
    lines = [line for line in capsys.readouterr().err.splitlines() if "clipseg_pl:" in line]
    assert len(lines) == 1 and answer in lines[0]


@pytest.mark.parametrize(
    ("key", "value", "answer"),
    [
        ("max_steps", -1, "set --trainer.max_steps to at least 1, not -1"),
        ("max_steps", 0, "set --trainer.max_steps to at least 1, not 0"),
        ("devices", 0, "set --trainer.devices to a number of at least 1"),
        ("devices", "two", "or auto, not two"),
        ("accumulate_grad_batches", 0, "set --trainer.accumulate_grad_batches to at"),
        ("val_check_interval", 0, "set --trainer.val_check_interval to more than 0"),
        ("check_val_every_n_epoch", 0, "set --trainer.check_val_every_n_epoch to at"),
        ("log_every_n_steps", -1, "set --trainer.log_every_n_steps to at least 0"),
    ],
)
def test_settings_of_the_trainer_out_of_range_are_refused(capsys, key, value, answer):
    trainer = Namespace(devices="auto", val_check_interval=None)
    check_trainer(trainer, fit=True)
    trainer[key] = value
    with pytest.raises(SystemExit):
        check_trainer(trainer, fit=True)
    assert answer in capsys.readouterr().err


@pytest.mark.parametrize(
    ("build", "answer"),
    [
        (
            partial(PhraseCutDataModule, batch_size=0),
            "batch_size 0 and image_size 352 must be >= 1",
        ),
        (
            partial(PhraseCutDataModule, phrases_per_image=0),
            "phrases_per_image is at least 1, not 0",
        ),
        (partial(FiLMDecoder, BackboneShape(8, 8, 4, 12), dim=-4), "the decoder's dim -4, heads 4"),
        (partial(FiLMDecoder, BackboneShape(8, 8, 4, 12), heads=0), "heads 0 and feedforward 2048"),
    ],
)
def test_settings_of_classes_out_of_range_are_refused(build, answer):
    with pytest.raises(ValueError, match=answer):
        build()


@pytest.mark.parametrize("callback", ["EarlyStopping", "ModelCheckpoint"])
def test_a_monitor_that_is_not_measured_is_one_line_with_the_nearest(
    miniature, tmp_path, capsys, callback
):
    more = (f"--trainer.callbacks+={callback}", "--trainer.callbacks.monitor=val/text/miou@bets")
    with pytest.raises(SystemExit):
        run(*arguments("fit", miniature, tmp_path, *more))
    (line,) = [line for line in capsys.readouterr().err.splitlines() if "clipseg_pl:" in line]
    assert "monitors val/text/miou@bets, which is not measured; nearest: val/text/miou@" in line
    assert len(line) < 300


def test_a_path_that_ends_a_message_can_be_copied(miniature, tmp_path, capsys):
    missing = tmp_path / "missing.ckpt"
    with pytest.raises(SystemExit):
        run(*arguments("validate", miniature, tmp_path, f"--ckpt_path={missing}"))
    said = capsys.readouterr().err
    assert f"no checkpoint {missing} (set CLIPSEG_TRACE=1 for the trace)\n" in said


@pytest.mark.parametrize("option", ["--ckpt_path", "--model.init_decoder"])
def test_weights_that_were_trained_on_other_layers_are_refused(
    option, trained, miniature, tmp_path, capsys
):
    content = torch.load(trained / "checkpoints" / "last.ckpt", weights_only=True)
    files = {name: tmp_path / f"{name}.ckpt" for name in ("other", "older")}
    torch.save({**content, "layers": [7, 15, 19]}, files["other"])  # the backbone was deeper
    del content["layers"]  # before there was a default, the hyper-parameters named them
    content["hyper_parameters"]["decoder"]["init_args"]["layers"] = [3, 7, 9]
    torch.save(content, files["older"])
    with pytest.raises(SystemExit):
        run(*arguments("validate", miniature, tmp_path, f"{option}={files['other']}"))
    said = capsys.readouterr().err.strip().splitlines()[-1]
    assert "taps layers [7, 15, 19], the one built here [3, 7, 9]" in said
    run(*arguments("validate", miniature, tmp_path, f"{option}={files['older']}"))
    assert "layers" not in capsys.readouterr().err


def test_a_key_refused_in_a_file_is_named(miniature, tmp_path, capsys):
    overlay = tmp_path / "mistyped.yaml"
    overlay.write_text("model: {not_pretrained: true}")
    with pytest.raises(SystemExit):
        run(*arguments("fit", miniature, tmp_path / "new", configs=(overlay,)))
    assert "not_pretrained" in capsys.readouterr().err


def test_a_model_that_may_have_seen_what_is_held_out_is_refused(
    trained, decoder_file, miniature, tmp_path, capsys
):
    overlay = EXPERIMENTS / "benchmarks" / "pascal_zero_shot.yaml"
    checkpoint = trained / "checkpoints" / "best.ckpt"
    for weights in (f"--ckpt_path={checkpoint}", f"--model.init_decoder={decoder_file}"):
        with pytest.raises(SystemExit):
            run(*arguments("validate", miniature, tmp_path / "new", weights, configs=(overlay,)))
        said = capsys.readouterr().err.strip().splitlines()[-1]
        assert "was not trained without cow, motorbike" in said and "allow_seen true" in said


@pytest.mark.slow
@pytest.mark.parametrize("option", ["--ckpt_path", "--model.init_decoder"])
def test_what_weights_have_seen_they_cannot_forget(option, trained, miniature, tmp_path):
    """Gone on with, without the classes, from a run that named them."""
    data, start = EXPERIMENTS / "data" / "without_unseen_2.yaml", trained / "checkpoints/last.ckpt"
    more = (f"{option}={start}", "--trainer.max_steps=4")
    run(*arguments("fit", miniature, tmp_path, *more, configs=(data,)))
    last = tmp_path / "checkpoints" / "last.ckpt"
    assert torch.load(last, weights_only=True)["excluded"] == []


@pytest.mark.slow
def test_a_model_that_has_not_is_evaluated(miniature, tmp_path):
    data = EXPERIMENTS / "data" / "without_unseen_10.yaml"
    run(*arguments("fit", miniature, tmp_path, "--trainer.max_steps=1", configs=(data,)))
    overlay = EXPERIMENTS / "benchmarks" / "pascal_zero_shot.yaml"
    for unseen in (10, 4):
        more = (
            f"--ckpt_path={tmp_path / 'checkpoints' / 'last.ckpt'}",
            f"--data.init_args.unseen={unseen}",
            "--trainer.limit_val_batches=1",
        )
        run(*arguments("validate", miniature, tmp_path, *more, configs=(overlay,)))
        assert "val/text/miou_unseen" in results(tmp_path)["metrics"]
