"""One-line error messages of the command line."""

import os
import shutil
from functools import partial

import pytest
import torch
from jsonargparse import Namespace

from clipseg_pl.cli.arguments import check_trainer
from clipseg_pl.convert.loading import start_from
from clipseg_pl.inference.segmenter import Segmenter
from clipseg_pl.models.backbone import BackboneShape
from clipseg_pl.models.clip_backbone import CLIPBackbone
from clipseg_pl.models.clipseg import CLIPSeg
from clipseg_pl.models.decoder import FiLMDecoder
from clipseg_pl.weights.places import TOY_CLIP
from datamodules.phrasecut import PhraseCutDataModule
from tests.command import EXPERIMENTS, arguments, results, run

MODELS = "clipseg_pl.models"


@pytest.mark.parametrize("command", ["validate", "test", "predict"])
def test_evaluation_without_weights_is_an_error(miniature, tmp_path, capsys, command):
    with pytest.raises(SystemExit):
        run(*arguments(command, miniature, tmp_path / "new"))
    assert f"{command} needs weights: set --ckpt_path" in capsys.readouterr().err
    assert not (tmp_path / "new").exists()


def test_decoder_of_another_width_is_an_error(decoder_file, miniature, tmp_path, capsys):
    more = (f"--model.init_decoder={decoder_file}", "--model.decoder.init_args.dim=16")
    with pytest.raises(SystemExit):
        run(*arguments("fit", miniature, tmp_path / "new", *more))
    message = capsys.readouterr().err.strip()
    assert (
        f"{decoder_file}: decoder width D is 64 in the file and 16 in the model" in message
        and "\n" not in message
    )


@pytest.mark.parametrize("name", ["cut.ckpt", "text.ckpt", "other.ckpt"])
def test_file_that_is_no_checkpoint_is_an_error(trained, miniature, tmp_path, capsys, name):
    whole = (trained / "checkpoints" / "best.ckpt").read_bytes()
    (tmp_path / "cut.ckpt").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "text.ckpt").write_text("no checkpoint")
    torch.save({"weight": torch.zeros(1)}, tmp_path / "other.ckpt")
    with pytest.raises(SystemExit):
        run(*arguments("validate", miniature, tmp_path / "new", f"--ckpt_path={tmp_path / name}"))
    message = capsys.readouterr().err.strip()
    assert f"{tmp_path / name}: not a checkpoint" in message and "\n" not in message


@pytest.mark.slow
def test_photo_that_a_worker_cannot_read_is_reported(trained, miniature, tmp_path, capsys):
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
        ("--model.decoder.init_args.hidden=3", "this class accepts dim, dropout, feedforward, he"),
        ("--hidden=3", "Did you mean model.decoder.init_args.hidden of DeconvDecoder?"),
        ("--data.init_args.fold=0", "this class accepts batch_size, exclusion, image_size"),
        ("--data.init_args.prompting.foo=3", "prompting accepts blank_support, evaluation_form"),
        ("--model.foo=3", "model accepts backbone, backbone_lr, compile"),
        ("--data.init_args.prompting.negativ_prob=0.5", "Did you mean prompting.negative_prob?"),
        ("--trainer.max_step=3", "Did you mean trainer.max_steps?"),
        ("--model.decoder.init_args.dim=abc", "Expected a <class 'int'>"),
        ("--model.decoder.init_args.layers=[3,77]", "0 to 11"),
        ("--model.backbone.init_args.name=nothing", "unknown CLIP 'nothing'"),
        ("--data.init_args.root=/nowhere", "missing photos in images/, image_data_split.json"),
        ("--data.init_args.image_size=60", "image_size 48 or 64, or another multiple of 16"),
        ("--data.init_args.image_size=9", "image_size 16, or another"),
        ("--data.init_args.prompting.text_weight_max=2", "text_weight_min <= text_weight_max"),
        ("--trainer.max_steps=0", "--trainer.max_steps must be at least 1, or -1 if"),
        ("--trainer.strategy=nothing", "invalid strategy name: `strategy='nothing'`"),
        ("--trainer.accelerator=nothing", "invalid accelerator name: `accelerator='nothing'`"),
        ("--data.init_args.num_workers=-1", "num_workers must be >= 0, not -1"),
        ("--trainer.default_root_dir=/proc/new", "clipseg_pl: /proc/new: "),
        ("--model.decoder.init_args.heads=5", "must be divisible by its heads"),
        ("--trainer.limit_val_batches=-1", "for limit_val_batches, it has to be in [0.0, 1.0]"),
    ],
)
def test_invalid_option_prints_one_line(miniature, tmp_path, capsys, option, answer):
    with pytest.raises(SystemExit) as stopped:
        run(*arguments("fit", miniature, tmp_path / "new", option))
    assert stopped.value.code
    lines = [line for line in capsys.readouterr().err.splitlines() if "clipseg_pl:" in line]
    assert len(lines) == 1 and answer in lines[0]


@pytest.mark.parametrize(
    ("key", "value", "answer"),
    [
        ("max_steps", -1, "at least 1, or -1 if --trainer.max_epochs is set, got -1"),
        ("max_steps", 0, "at least 1, or -1 if --trainer.max_epochs is set, got 0"),
        ("max_epochs", 0, "--trainer.max_epochs must be at least 1, got 0"),
        ("devices", 0, "--trainer.devices must be a number of at least 1"),
        ("devices", "two", "or auto, got two"),
        ("accumulate_grad_batches", 0, "--trainer.accumulate_grad_batches must be at least 1"),
        ("val_check_interval", 0, "--trainer.val_check_interval must be greater than 0"),
        ("check_val_every_n_epoch", 0, "--trainer.check_val_every_n_epoch must be at least 1"),
        ("log_every_n_steps", -1, "--trainer.log_every_n_steps must be at least 0"),
    ],
)
def test_trainer_setting_out_of_range_is_an_error(capsys, key, value, answer):
    trainer = Namespace(devices="auto", val_check_interval=None)
    check_trainer(trainer, fit=True)
    trainer[key] = value
    with pytest.raises(SystemExit):
        check_trainer(trainer, fit=True)
    assert answer in capsys.readouterr().err


def test_length_in_epochs_needs_no_limit_in_steps():
    limits = {"max_steps": -1, "max_epochs": 20}
    check_trainer(Namespace(devices="auto", val_check_interval=None, **limits), fit=True)


@pytest.mark.parametrize(
    ("build", "answer"),
    [
        (
            partial(PhraseCutDataModule, batch_size=0),
            "batch_size 0 and image_size 352 must be >= 1",
        ),
        (
            partial(PhraseCutDataModule, phrases_per_image=0),
            "phrases_per_image must be >= 1, not 0",
        ),
        (partial(FiLMDecoder, BackboneShape(8, 8, 4, 12), dim=-4), "the decoder's dim -4, heads 4"),
        (partial(FiLMDecoder, BackboneShape(8, 8, 4, 12), heads=0), "heads 0 and feedforward 32"),
    ],
)
def test_class_setting_out_of_range_raises(build, answer):
    with pytest.raises(ValueError, match=answer):
        build()


@pytest.mark.parametrize("callback", ["EarlyStopping", "ModelCheckpoint"])
def test_unknown_monitor_suggests_similar_metrics(miniature, tmp_path, capsys, callback):
    more = (f"--trainer.callbacks+={callback}", "--trainer.callbacks.monitor=val/text/miou@bets")
    with pytest.raises(SystemExit):
        run(*arguments("fit", miniature, tmp_path, *more))
    (line,) = [line for line in capsys.readouterr().err.splitlines() if "clipseg_pl:" in line]
    assert "monitors val/text/miou@bets, which is not a logged metric. Most similar: val/" in line
    assert len(line) < 300


def test_path_at_the_end_of_a_message_is_not_followed_by_punctuation(miniature, tmp_path, capsys):
    missing = tmp_path / "missing.ckpt"
    with pytest.raises(SystemExit):
        run(*arguments("validate", miniature, tmp_path, f"--ckpt_path={missing}"))
    message = capsys.readouterr().err
    assert f"no checkpoint {missing} (set CLIPSEG_TRACE=1 for the traceback)\n" in message


@pytest.mark.parametrize("option", ["--ckpt_path", "--model.init_decoder"])
def test_weights_trained_on_other_layers_are_an_error(option, trained, miniature, tmp_path, capsys):
    content = torch.load(trained / "checkpoints" / "last.ckpt", weights_only=True)
    files = {name: tmp_path / f"{name}.ckpt" for name in ("other", "older")}
    torch.save({**content, "layers": [7, 15, 19]}, files["other"])  # of a deeper backbone
    del content["layers"]  # older checkpoints list them in the hyper-parameters only
    content["hyper_parameters"]["decoder"]["init_args"]["layers"] = [3, 7, 9]
    torch.save(content, files["older"])
    with pytest.raises(SystemExit):
        run(*arguments("validate", miniature, tmp_path, f"{option}={files['other']}"))
    message = capsys.readouterr().err.strip().splitlines()[-1]
    assert "taps layers [7, 15, 19], but this model's decoder taps layers [3, 7, 9]" in message
    run(*arguments("validate", miniature, tmp_path, f"{option}={files['older']}"))
    assert "layers" not in capsys.readouterr().err


@pytest.mark.parametrize("option", ["--ckpt_path", "--model.init_decoder", None])
@pytest.mark.parametrize(
    ("backbone", "kind"),
    [
        (
            {"class_path": f"{MODELS}.clip_backbone.CLIPBackbone", "init_args": {"name": "toy"}},
            "CLIP",
        ),
        ({"class_path": f"{MODELS}.vit_backbone.ViTBackbone", "init_args": {"name": "toy"}}, "ViT"),
    ],
)
def test_weights_trained_on_the_older_toy_clip_are_an_error(
    option, backbone, kind, trained, miniature, tmp_path, capsys
):
    """Option None: load the weights with `Segmenter.from_pretrained`."""
    file = tmp_path / "older.ckpt"
    content = torch.load(trained / "checkpoints" / "last.ckpt", weights_only=True)
    content["hyper_parameters"]["backbone"] = backbone
    torch.save(content, file)
    if option:
        with pytest.raises(SystemExit):
            run(*arguments("validate", miniature, tmp_path / "new", f"{option}={file}"))
        message = capsys.readouterr().err.splitlines()[-1]
        assert "Traceback" not in message and not (tmp_path / "new").exists()
    else:
        with pytest.raises(ValueError) as error:
            Segmenter.from_pretrained(file)
        message = str(error.value)
    reason = f"the {kind} 'toy' belongs to an earlier version of the toy world and is no longer"
    assert reason in message and "train decoders of 'toy' again" in message
    assert "\n" not in message


@pytest.mark.parametrize("name", [{}, {"name": TOY_CLIP}])
def test_vitseg_trained_with_the_older_toy_clip_is_an_error(name, trained, tmp_path):
    content = torch.load(trained / "checkpoints" / "last.ckpt", weights_only=True)
    content["hyper_parameters"]["backbone"] = {
        "class_path": f"{MODELS}.vit_backbone.ViTBackbone",
        "init_args": {**name, "clip": "toy"},
    }
    torch.save(content, tmp_path / "older.ckpt")
    model = CLIPSeg(CLIPBackbone("tiny", pretrained=False), FiLMDecoder)
    with pytest.raises(ValueError, match="the CLIP 'toy' belongs to an earlier version"):
        start_from(model, tmp_path / "older.ckpt")


def test_unknown_key_in_a_config_is_reported(miniature, tmp_path, capsys):
    overlay = tmp_path / "mistyped.yaml"
    overlay.write_text("model: {not_pretrained: true}")
    with pytest.raises(SystemExit):
        run(*arguments("fit", miniature, tmp_path / "new", configs=(overlay,)))
    assert "not_pretrained" in capsys.readouterr().err


def test_model_that_may_have_seen_held_out_classes_is_an_error(
    trained, decoder_file, miniature, tmp_path, capsys
):
    overlay = EXPERIMENTS / "benchmarks" / "pascal_zero_shot.yaml"
    checkpoint = trained / "checkpoints" / "best.ckpt"
    for weights in (f"--ckpt_path={checkpoint}", f"--model.init_decoder={decoder_file}"):
        with pytest.raises(SystemExit):
            run(*arguments("validate", miniature, tmp_path / "new", weights, configs=(overlay,)))
        message = capsys.readouterr().err.strip().splitlines()[-1]
        assert "may have been trained on the benchmark's held-out classes cow, motor" in message
        assert "allow_seen true" in message


@pytest.mark.slow
@pytest.mark.parametrize("option", ["--ckpt_path", "--model.init_decoder"])
def test_weights_that_have_seen_classes_never_count_as_excluding_them(
    option, trained, miniature, tmp_path
):
    """The classes are excluded only in the second of two trainings."""
    data, start = EXPERIMENTS / "data" / "without_unseen_2.yaml", trained / "checkpoints/last.ckpt"
    more = (f"{option}={start}", "--trainer.max_steps=4")
    run(*arguments("fit", miniature, tmp_path, *more, configs=(data,)))
    last = tmp_path / "checkpoints" / "last.ckpt"
    assert torch.load(last, weights_only=True)["excluded"] == []


@pytest.mark.slow
def test_model_trained_without_held_out_classes_is_evaluated(miniature, tmp_path):
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
