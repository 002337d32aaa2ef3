"""The LightningModule without the command line."""

import math
from collections import Counter
from functools import partial

import pytest
import torch
from lightning import Trainer
from lightning.pytorch.callbacks import LambdaCallback
from torch.optim import AdamW

from clipseg_pl.models.clip_backbone import CLIPBackbone
from clipseg_pl.models.decoder import FiLMDecoder
from clipseg_pl.protocols.one_shot import OneShotProtocol
from clipseg_pl.protocols.own_data import OwnDataProtocol
from clipseg_pl.protocols.referring import ReferringProtocol
from clipseg_pl.protocols.zero_shot import ZeroShotProtocol
from clipseg_pl.sample import collate
from clipseg_pl.training.module import CLIPSegModule
from clipseg_pl.training.schedule import CosineSchedule
from datamodules.coco_20i import COCO20iDataModule
from datamodules.pascal_zero_shot import PascalZeroShotDataModule
from datamodules.phrasecut import PhraseCutDataModule

STEPS = 4


@pytest.fixture
def module():
    decoder = partial(FiLMDecoder, dim=16, feedforward=32)
    return CLIPSegModule(CLIPBackbone("tiny", pretrained=False), decoder)


@pytest.fixture
def data(miniature):
    return PhraseCutDataModule(str(miniature), image_size=64, batch_size=4, num_workers=0)


def trainer(folder, **more):
    quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False}
    return Trainer(
        accelerator="cpu",
        default_root_dir=folder,
        use_distributed_sampler=False,
        num_sanity_val_steps=0,
        **({"max_steps": STEPS} | quiet | more),
    )


def first_batch(data):
    data.setup("validate")
    return next(iter(data.val_dataloader()))


def test_settings_contain_no_copy_of_the_weights(module):
    assert not any(isinstance(value, torch.nn.Module) for value in module.hparams.values())


def test_loss_is_the_mean_over_valid_pixels(module, data):
    batch = first_batch(data)
    logits = torch.randn(batch["query_mask"].shape)
    batch["valid_mask"] = torch.rand(logits.shape) > 0.5
    expected = [
        math.log1p(math.exp(-x if positive else x))
        for x, positive, valid in zip(
            logits.flatten().tolist(),
            batch["query_mask"].flatten().tolist(),
            batch["valid_mask"].flatten().tolist(),
            strict=True,
        )
        if valid
    ]
    assert float(module.loss(logits, batch)) == pytest.approx(sum(expected) / len(expected), 1e-5)


def test_training_optimises_only_the_decoder_along_a_cosine(module, data, tmp_path):
    seen = []
    step = module.training_step

    def training_step(batch, batch_idx):
        seen.append(module.optimizers().param_groups[0]["lr"])
        return step(batch, batch_idx)

    module.training_step = training_step
    module.optimizer = partial(AdamW, lr=1e-3)
    frozen = {k: v.clone() for k, v in module.model.backbone.state_dict().items()}
    before = {k: v.clone() for k, v in module.model.decoder.state_dict().items()}
    fit = trainer(tmp_path)
    fit.fit(module, data)
    cosine = [1e-4 + 9e-4 * (1 + math.cos(math.pi * s / STEPS)) / 2 for s in range(STEPS)]
    assert seen == pytest.approx(cosine)
    optimised = {id(p) for g in fit.optimizers[0].param_groups for p in g["params"]}
    assert optimised == {id(p) for p in module.model.decoder.parameters()}
    assert all(torch.equal(v, frozen[k]) for k, v in module.model.backbone.state_dict().items())
    after = module.model.decoder.state_dict()
    assert all(not torch.equal(v, before[k]) for k, v in after.items())


def test_run_of_epochs_sees_every_sample_equally_often_and_ends_its_cosine(module, data, tmp_path):
    seen, step = [], module.training_step

    def training_step(batch, batch_idx):
        seen.extend(name.removesuffix("__absent") for name in batch["prompt_id"])
        return step(batch, batch_idx)

    module.training_step = training_step
    data.batch_size = 8
    validated = []
    note = LambdaCallback(on_validation_end=lambda fit, _: validated.append(fit.global_step))
    fit = trainer(tmp_path, max_epochs=2, max_steps=-1, val_check_interval=0.5, callbacks=[note])
    fit.fit(module, data)
    assert fit.global_step == 9  # 2 * 36 / 8
    assert len(seen) == 72 and set(Counter(seen).values()) == {2}
    assert fit.optimizers[0].param_groups[0]["lr"] == pytest.approx(1e-4)
    assert validated == [4, 8, 9]
    with pytest.raises(ValueError, match="already taken 9 of 9 steps: increase"):
        fit.fit(module, data)


def test_all_groups_follow_the_cosine_of_the_first():
    weights = [torch.nn.Parameter(torch.zeros(1)) for _ in range(3)]
    groups = [{"params": [w], "lr": lr} for w, lr in zip(weights, (1e-3, 1e-5, 0.0), strict=True)]
    optimizer = AdamW(groups)
    schedule, seen = CosineSchedule(optimizer, 1e-4, STEPS), []
    for _ in range(STEPS + 2):
        seen.append([group["lr"] for group in optimizer.param_groups])
        optimizer.step()
        schedule.step()
    first, second, third = map(list, zip(*seen, strict=True))
    cosine = [1e-4 + 9e-4 * (1 + math.cos(math.pi * s / STEPS)) / 2 for s in range(STEPS)]
    assert first == pytest.approx([*cosine, 1e-4, 1e-4])
    assert second == pytest.approx([rate / 100 for rate in first]) and set(third) == {0.0}


def test_schedule_never_raises_the_rate():
    optimizer = AdamW([torch.nn.Parameter(torch.zeros(1))], lr=1e-5)
    schedule = CosineSchedule(optimizer, 1e-4, STEPS)
    for _ in range(STEPS + 2):
        assert optimizer.param_groups[0]["lr"] == 1e-5
        optimizer.step()
        schedule.step()


def rates(schedule, steps):
    """Return the rates of every group in the next steps."""
    seen = []
    for _ in range(steps):
        seen.append([group["lr"] for group in schedule.optimizer.param_groups])
        schedule.optimizer.step()
        schedule.step()
    return seen


def test_warm_up_rises_linearly_to_the_start_of_the_cosine():
    weights = [torch.nn.Parameter(torch.zeros(1)) for _ in range(2)]
    groups = [{"params": [w], "lr": lr} for w, lr in zip(weights, (1e-3, 1e-5), strict=True)]
    schedule = CosineSchedule(AdamW(groups), 1e-4, steps=7, warmup_steps=3)
    cosine = [1e-4 + 9e-4 * (1 + math.cos(math.pi * s / 4)) / 2 for s in range(4)]
    decoder, small = zip(*rates(schedule, 8), strict=True)
    assert decoder == pytest.approx([2.5e-4, 5e-4, 7.5e-4, *cosine, 1e-4])
    assert small == pytest.approx([rate / 100 for rate in decoder])


@pytest.mark.parametrize("done", [2, 5])  # in the warm-up and after it
def test_schedule_resumed_with_another_length_equals_one_of_this_length(done):
    def schedule(steps):
        weights = [torch.nn.Parameter(torch.zeros(1)) for _ in range(2)]
        groups = [{"params": [w], "lr": lr} for w, lr in zip(weights, (1e-3, 1e-5), strict=True)]
        return CosineSchedule(AdamW(groups), 1e-4, steps, warmup_steps=4)

    first, resumed = schedule(10), schedule(20)
    rates(first, done)
    resumed.optimizer.load_state_dict(first.optimizer.state_dict())
    resumed.load_state_dict(first.state_dict())
    whole = rates(schedule(20), 20)
    assert rates(resumed, 20 - done) == [pytest.approx(step) for step in whole[done:]]


def test_warm_up_takes_half_of_the_run_at_most():
    first, limit = (
        CosineSchedule(AdamW([torch.nn.Parameter(torch.zeros(1))]), 1e-4, 7, warmup_steps)
        for warmup_steps in (500, 3)
    )
    assert rates(first, 8) == rates(limit, 8)


def test_negative_warm_up_raises():
    with pytest.raises(ValueError, match="warmup_steps must be >= 0, got -1"):
        CosineSchedule(AdamW([torch.nn.Parameter(torch.zeros(1))]), 1e-4, STEPS, -1)


def test_resumed_schedule_follows_the_rate_of_the_new_optimizer():
    def state(lr, before=None):
        optimizer = AdamW([torch.nn.Parameter(torch.zeros(1))], lr=lr)
        schedule = CosineSchedule(optimizer, 1e-4, STEPS)
        if before:
            optimizer.load_state_dict(before[0])
            schedule.load_state_dict(before[1])
        optimizer.step()
        schedule.step()
        return optimizer.state_dict(), schedule.state_dict()

    assert state(1e-3, state(1e-3))[0]["param_groups"][0]["lr"] == pytest.approx(5.5e-4)
    assert state(2e-4, state(1e-3))[0]["param_groups"][0]["lr"] == pytest.approx(1.5e-4)


def test_negative_min_lr_raises():
    with pytest.raises(ValueError, match="min_lr must be >= 0, got -1"):
        CosineSchedule(AdamW([torch.nn.Parameter(torch.zeros(1))]), -1, STEPS)


def test_text_and_visual_prompts_equal_blends_of_weight_1_and_0(module, data):
    batch = first_batch(data)
    module.eval()
    with torch.no_grad():
        predictions = module.segment(batch)
        for prompt_type, weight in (("text", 1.0), ("visual", 0.0)):
            logits, selected = predictions[prompt_type]
            blended = dict(batch, mix_weight=torch.full_like(batch["mix_weight"], weight))
            assert torch.allclose(logits, module(blended)[selected], atol=1e-5)


def test_images_are_encoded_once_for_all_prompt_types(module, data):
    batch = first_batch(data)
    calls = []
    encode = module.model.encode
    module.model.encode = lambda images: calls.append(len(images)) or encode(images)
    module.segment(batch)
    assert calls == [len(batch["query_image"])]


def test_zero_shot_encodes_each_image_once_for_all_21_classes(miniature, tmp_path):
    module = CLIPSegModule(
        CLIPBackbone("tiny", pretrained=False), FiLMDecoder, protocol=ZeroShotProtocol()
    )
    data = PascalZeroShotDataModule(
        str(miniature), image_size=64, batch_size=16, num_workers=0, unseen=4
    )
    clip = module.model.backbone.clip
    images, texts = [], []
    clip.visual.conv1.register_forward_hook(lambda _, args, __: images.append(len(args[0])))
    clip.token_embedding.register_forward_hook(lambda _, args, __: texts.append(len(args[0])))
    trainer(tmp_path).validate(module, data, verbose=False)
    assert images == [16, 16, 8] and 21 <= sum(texts) < 42  # texts are padded
    assert 0 < module.numbers["val/text/miou"] < 1


def test_threshold_is_updated_during_training_only(module, data, tmp_path):
    fit = trainer(tmp_path)
    fit.fit(module, data)
    assert module.threshold == pytest.approx(module.numbers["val/text/threshold@best"])
    module.threshold = 0.5
    trainer(tmp_path).validate(module, data, verbose=False)
    assert module.threshold == 0.5
    assert "val/text/miou@stored" in module.numbers


def test_absent_cut_is_stored_in_checkpoints(module, data, tmp_path):
    fit = trainer(tmp_path)
    fit.fit(module, data)
    assert module.absent_cut == module.numbers["val/text/absent_cut@best"]
    fit.save_checkpoint(tmp_path / "own.ckpt")
    content = torch.load(tmp_path / "own.ckpt", weights_only=True)
    assert isinstance(content["absent_cut"], float) and content["absent_cut"] == module.absent_cut
    module.on_load_checkpoint({**content, "absent_cut": 0.625})
    trainer(tmp_path).validate(module, data, verbose=False)
    assert module.absent_cut == 0.625  # not updated by an evaluation
    assert "val/text/presence_accuracy@stored" in module.numbers
    module.on_load_checkpoint({k: v for k, v in content.items() if k != "absent_cut"})
    assert module.absent_cut is None  # checkpoint from before absent cuts


class ClassThresholds(ReferringProtocol):
    """Finds thresholds of two phrases in every evaluation."""

    def best_class_thresholds(self):
        return {"dog": 0.25, "wall crack": 0.75}


def test_class_thresholds_are_stored_in_checkpoints(module, data, tmp_path):
    module.protocol = ClassThresholds(["text"])
    fit = trainer(tmp_path)
    fit.fit(module, data)
    fit.save_checkpoint(tmp_path / "own.ckpt")
    content = torch.load(tmp_path / "own.ckpt", weights_only=True)
    assert content["class_thresholds"] == {"dog": 0.25, "wall crack": 0.75}
    module.on_load_checkpoint({**content, "class_thresholds": {"dog": 0.5}})
    trainer(tmp_path).validate(module, data, verbose=False)
    assert module.class_thresholds == module.protocol.class_thresholds == {"dog": 0.5}
    del content["class_thresholds"]  # as in older checkpoints
    module.on_load_checkpoint(content)
    assert module.class_thresholds == {}


@pytest.mark.slow
def test_thresholds_of_the_classes_of_the_data(module, miniature, tmp_path):
    module.protocol = OwnDataProtocol(["visual"])
    data = COCO20iDataModule(str(miniature), image_size=64, batch_size=8, num_workers=0)
    trainer(tmp_path, limit_val_batches=3).fit(module, data)
    found = module.report["visual: best threshold by class"]
    assert module.class_thresholds == found and found.keys() <= set(data.classes.names)
    assert module.report["visual: stored threshold by class"] == found
    best = module.numbers["val/visual/miou@class"]
    assert best >= module.numbers["val/visual/miou@best"] - 1e-9 and best > 0


@pytest.mark.slow
def test_training_without_negatives_in_validation_stores_no_cut(module, miniature, tmp_path):
    module.protocol = OneShotProtocol(80, ["visual"])
    data = COCO20iDataModule(str(miniature), image_size=64, batch_size=8, num_workers=0)
    fit = trainer(tmp_path)
    fit.fit(module, data)
    fit.save_checkpoint(tmp_path / "own.ckpt")
    content = torch.load(tmp_path / "own.ckpt", weights_only=True)
    assert content["threshold"] is not None and content["absent_cut"] is None


def test_module_built_in_python_saves_no_pickled_objects(module, data, tmp_path):
    fit = trainer(tmp_path)
    fit.fit(module, data)
    fit.save_checkpoint(tmp_path / "own.ckpt")
    content = torch.load(tmp_path / "own.ckpt", weights_only=True)
    plain = {"min_lr": 1e-4, "warmup_steps": 0, "unfreeze_blocks": 0, "backbone_lr": 1e-5}
    assert content["hyper_parameters"] == plain


def test_empty_batch_is_skipped(module):
    assert module.validation_step(collate([]), 0) == {}
    assert module.predict_step(collate([]), 0) is None


def test_batch_without_visual_prompts_trains_the_whole_decoder(module, data):
    batch = first_batch(data)
    text_only = dict(
        batch,
        visual_prompt=batch["visual_prompt"][:0],
        prompt_index=batch["prompt_index"][:0],
        mix_weight=torch.ones_like(batch["mix_weight"]),
    )
    loss = module.loss(module(text_only), batch)
    loss.backward()
    assert all(p.grad is not None for p in module.model.decoder.parameters())
    assert all(p.grad is None for p in module.model.backbone.parameters())


def test_loss_is_finite_in_bfloat16(module, data, tmp_path):
    fit = trainer(tmp_path, precision="bf16-mixed")
    fit.fit(module, data)
    assert math.isfinite(float(fit.callback_metrics["train/loss"]))
    # text embeddings cached under autocast must also work in float32
    module.segment(first_batch(data))


def test_predictions_exclude_negatives(module, data):
    batch = first_batch(data)
    module.eval()
    with torch.no_grad():
        probability, named = module.predict_step(batch, 0)
        logits, selected = module.segment(batch)["text"]
    assert named.tolist() == (~batch["negative"]).tolist() and batch["negative"].any()
    assert torch.allclose(probability, logits[named[selected]].sigmoid(), atol=1e-6)


def test_many_prompts_are_decoded_in_chunks(module, data, monkeypatch):
    module.eval()
    batch = first_batch(data)
    decoded = []
    module.model.decoder.register_forward_pre_hook(lambda _, args: decoded.append(len(args[1])))
    with torch.inference_mode():
        whole, _ = module.predict_step(batch, 0)
        (prompts,) = decoded
        monkeypatch.setattr("clipseg_pl.models.clipseg._PROMPTS_AT_ONCE", 2)
        parts, _ = module.predict_step(batch, 0)
    assert prompts > 2 and max(decoded[1:]) == 2 and sum(decoded[1:]) == prompts
    assert torch.allclose(whole, parts, atol=1e-5)
