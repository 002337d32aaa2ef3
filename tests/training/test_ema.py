"""The average of the trained weights in validations, checkpoints and resumed runs."""

import signal
from functools import partial

import pytest
import torch
from lightning import Callback, Trainer
from lightning.pytorch.callbacks import EMAWeightAveraging, ModelCheckpoint
from torch.optim import AdamW

from clipseg_pl.models.clip_backbone import CLIPBackbone
from clipseg_pl.models.decoder import FiLMDecoder
from clipseg_pl.training.callbacks.ema import WeightEMA
from clipseg_pl.training.module import CLIPSegModule
from datamodules.phrasecut import PhraseCutDataModule
from tests.command import run
from tests.training.test_resume import best, fit, same_state, signalled

DECAY = 0.75


class Recorder(Callback):
    """Copies the decoder's weights after every batch."""

    def __init__(self):
        self.weights = []

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        state = pl_module.model.decoder.state_dict()
        self.weights.append({key: value.clone() for key, value in state.items()})


def make_module():
    torch.manual_seed(0)
    decoder = partial(FiLMDecoder, dim=16, feedforward=32)
    return CLIPSegModule(
        CLIPBackbone("tiny", pretrained=False), decoder, optimizer=partial(AdamW, lr=1e-2)
    )


def train(miniature, folder, *callbacks, precision="32-true"):
    module = make_module()
    data = PhraseCutDataModule(str(miniature), image_size=64, batch_size=4, num_workers=0)
    trainer = Trainer(
        accelerator="cpu",
        precision=precision,
        max_steps=4,
        accumulate_grad_batches=2,
        callbacks=[*callbacks, ModelCheckpoint(folder, "last", save_top_k=1)],
        logger=False,
        use_distributed_sampler=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        default_root_dir=folder,
    )
    trainer.fit(module, data)
    return module, data, trainer


def close(first, second):
    return all(torch.allclose(first[key], second[key], atol=1e-7) for key in second)


def test_average_follows_the_steps_and_is_validated_and_saved(miniature, tmp_path):
    average, recorder = make_module().model.decoder.state_dict(), Recorder()
    module, data, trainer = train(miniature, tmp_path, WeightEMA(DECAY), recorder)
    for step in recorder.weights[1::2]:  # two batches per step
        average = {key: DECAY * average[key] + (1 - DECAY) * step[key] for key in average}
    assert close(module.model.decoder.state_dict(), average)
    assert not close(recorder.weights[-1], average)
    content = torch.load(tmp_path / "last.ckpt", weights_only=True)
    prefix = "model.decoder."
    stored, current = (
        {key.removeprefix(prefix): value for key, value in content[name].items()}
        for name in ("state_dict", "current_model_state")
    )
    assert stored.keys() == current.keys() == average.keys()  # no weights of the backbone
    assert close(stored, average) and close(current, recorder.weights[-1])
    validated, other = module.numbers, make_module()
    trainer.validate(other, data, ckpt_path=tmp_path / "last.ckpt", verbose=False)
    for name in ("val/text/miou@best", "val/text/ap"):
        assert other.numbers[name] == pytest.approx(validated[name])


def test_checkpoint_is_evaluated_after_a_training_by_the_same_trainer(miniature, tmp_path):
    module, data, trainer = train(miniature, tmp_path, WeightEMA(DECAY))
    last, other = tmp_path / "last.ckpt", make_module()
    stored = torch.load(last, weights_only=True)["state_dict"]
    for evaluate in (trainer.test, trainer.validate):
        evaluate(module, data, ckpt_path=last, verbose=False)
        numbers = module.numbers
        weights = module.state_dict()
        assert all(torch.equal(weights[key], value) for key, value in stored.items())
        evaluate(other, data, ckpt_path=last, verbose=False)
        assert numbers == other.numbers


def test_average_in_bfloat16_keeps_small_updates(miniature, tmp_path):
    """A change of a weight by less than 0.4 % is lost in bfloat16."""
    recorder, average = Recorder(), make_module().model.decoder.state_dict()
    ema = WeightEMA(0.999)
    module, _, _ = train(miniature, tmp_path, ema, recorder, precision="bf16-true")
    for step in recorder.weights[1::2]:
        average = {key: value.lerp(step[key].float(), 0.001) for key, value in average.items()}
    content = torch.load(tmp_path / "last.ckpt", weights_only=True)
    for key, value in module.model.decoder.state_dict().items():
        assert torch.equal(value, average[key].bfloat16())
        assert torch.allclose(content["state_dict"][f"model.decoder.{key}"], average[key])
        current = content["current_model_state"][f"model.decoder.{key}"]
        assert torch.equal(current, recorder.weights[-1][key])


@pytest.mark.slow
def test_stopped_run_resumes_to_the_same_average(miniature, tmp_path):
    more = ("--trainer.limit_val_batches=1", "--trainer.max_steps=8")
    ema = ("--trainer.callbacks+=WeightEMA", f"--trainer.callbacks.decay={DECAY}")
    run(*fit(miniature, tmp_path / "whole", *more, *ema))
    with pytest.raises(SystemExit):
        run(*fit(miniature, tmp_path / "run", *more, *ema, *signalled(signal.SIGTERM, 6)))
    run(*fit(miniature, tmp_path / "run", *more, *ema, "--ckpt_path=last"))
    whole, resumed = (
        torch.load(tmp_path / name / "checkpoints" / "last.ckpt", weights_only=True)
        for name in ("whole", "run")
    )
    assert same_state(tmp_path / "whole", tmp_path / "run")
    assert best(tmp_path / "whole") == best(tmp_path / "run")
    one, two = whole["current_model_state"], resumed["current_model_state"]
    assert one.keys() == two.keys() and all(torch.equal(one[key], two[key]) for key in one)
    assert any(not torch.equal(one[key], whole["state_dict"][key]) for key in one)


def test_run_resumed_without_an_average_starts_it_at_its_weights(trained):
    content = torch.load(trained / "checkpoints" / "last.ckpt", weights_only=True)
    module = CLIPSegModule(CLIPBackbone("tiny", pretrained=False))
    trainer, ema = Trainer(accelerator="cpu", logger=False), WeightEMA()
    ema.setup(trainer, module, "fit")
    ema.on_load_checkpoint(trainer, module, content)
    saved = {"state_dict": dict(module.state_dict())}
    ema.on_save_checkpoint(trainer, module, saved)
    weights = content["state_dict"]
    assert all(torch.equal(saved["state_dict"][key], weights[key]) for key in weights)
    assert all(torch.equal(saved["current_model_state"][key], weights[key]) for key in weights)


def test_averaging_that_includes_the_backbone_raises(miniature, tmp_path):
    with pytest.raises(ValueError, match=r"use the callback clipseg_pl.training.callbacks.ema"):
        train(miniature, tmp_path, EMAWeightAveraging())


@pytest.mark.parametrize("decay", [-0.1, 1.0])
def test_decay_out_of_range_raises(decay):
    with pytest.raises(ValueError, match=f"decay must be in \\[0, 1\\), got {decay:g}"):
        WeightEMA(decay)
