"""Training of the last tapped blocks of CLIP (`unfreeze_blocks`)."""

import math
import signal
from functools import partial

import onnxruntime
import pytest
import torch
from torch.optim import AdamW

from clipseg_pl.convert.decoder_files import write_original
from clipseg_pl.convert.loading import load_model, start_from
from clipseg_pl.convert.onnx_graphs import ENCODER, write_onnx
from clipseg_pl.convert.to_hugging_face import write_hugging_face
from clipseg_pl.models import cpu
from clipseg_pl.models.clip_backbone import CLIPBackbone
from clipseg_pl.models.clipseg import CLIPSeg
from clipseg_pl.models.decoder import FiLMDecoder
from clipseg_pl.models.deconv_decoder import DeconvDecoder
from clipseg_pl.models.vit_backbone import ViTBackbone
from clipseg_pl.training.module import CLIPSegModule
from datamodules.phrasecut import PhraseCutDataModule
from tests.command import arguments, run
from tests.convert.test_to_hugging_face import distance, ours, picture, theirs
from tests.models.tiny_clipseg import logits, tiny_backbone
from tests.training.test_module import first_batch, trainer
from tests.training.test_resume import fit, same_state, signalled

TEXTS = ["a dog", "grass"]
DECODER = partial(FiLMDecoder, dim=16, feedforward=32)


@pytest.fixture
def module():
    return CLIPSegModule(
        CLIPBackbone("tiny", pretrained=False), DECODER, partial(AdamW, lr=1e-3), unfreeze_blocks=2
    )


@pytest.fixture
def data(miniature):
    return PhraseCutDataModule(str(miniature), image_size=64, batch_size=4, num_workers=0)


@torch.no_grad()
def trained_model(layers=(0, 2, 3)) -> CLIPSeg:
    """Build a model whose blocks 2 and 3 clearly differ from the pre-trained ones."""
    decoder = partial(FiLMDecoder, layers=layers, dim=8, heads=4, feedforward=12)
    model = CLIPSeg(tiny_backbone(), decoder, 2).eval()
    for weight in model.backbone.trained_blocks.parameters():
        weight += 0.2 * torch.randn_like(weight)
    return model


def photos(count=2, side=64) -> torch.Tensor:
    return torch.randint(0, 256, (count, 3, side, side), dtype=torch.uint8)


def changed(before, after) -> set[str]:
    return {key for key in before if not torch.equal(before[key], after[key])}


# ---- gradients


@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
def test_training_changes_the_decoder_and_the_unfrozen_blocks_only(
    module, data, tmp_path, precision
):
    before = {key: value.clone() for key, value in module.state_dict().items()}
    trainer(tmp_path, precision=precision, gradient_clip_val=1.0).fit(module, data)
    names = changed(before, module.state_dict())
    blocks = {key for key in before if key.startswith("model.backbone.trained_blocks.")}
    assert {key.split(".")[3] for key in blocks} == {"8", "9"}
    assert names == blocks | {key for key in before if key.startswith("model.decoder.")}
    assert not any(part.training for part in module.model.backbone.modules())


def test_gradients_of_the_blocks_equal_those_of_a_plain_forward_pass(module, data):
    """The reference computes the blocks with open_clip's formula, without our CPU operations."""
    batch, model = first_batch(data), module.model.eval()

    def gradients():
        loss = module.loss(module(batch), batch)
        module.zero_grad()
        loss.backward()
        blocks = model.backbone.trained_blocks.named_parameters()
        return {name: weight.grad.clone() for name, weight in blocks}

    def activations(images, layers):
        tokens, tapped = model.backbone.embed_patches(images), {}
        for index, frozen in enumerate(model.backbone.clip.visual.transformer.resblocks):
            trained = dict(model.backbone.trained_blocks)
            block = trained.get(str(index), frozen)
            normed = block.ln_1(tokens)
            tokens = tokens + block.attn(normed, normed, normed, need_weights=False)[0]
            tokens = tokens + block.mlp(block.ln_2(tokens))
            tapped[index] = tokens
        return [tapped[index] for index in layers]

    ours = gradients()
    model.backbone.activations = activations
    for name, gradient in gradients().items():
        assert gradient.abs().max() > 0
        torch.testing.assert_close(ours[name], gradient, rtol=1e-3, atol=1e-7)


def test_activations_of_frozen_blocks_hold_no_graph(module):
    layers = [0, 7, 8, 9]
    kept = []
    with torch.autograd.graph.saved_tensors_hooks(lambda x: kept.append(x) or x, lambda x: x):
        activations = module.model.backbone.activations(photos(), layers)
    assert [tokens.requires_grad for tokens in activations] == [False, False, True, True]
    frozen = {id(weight) for weight in module.model.backbone.clip.parameters()}
    assert kept and not frozen & {id(tensor) for tensor in kept}
    kept.clear()
    module.model.backbone.trained_blocks.clear()
    with torch.autograd.graph.saved_tensors_hooks(lambda x: kept.append(x) or x, lambda x: x):
        module.model.backbone.activations(photos(), layers)
    assert not kept


def test_visual_prompts_are_embedded_by_the_pretrained_blocks():
    model, images = trained_model(), photos()
    plain = tiny_backbone()
    assert torch.equal(model.backbone.embed_image(images), plain.embed_image(images))
    ours, theirs = model.backbone.activations(images, [2]), plain.activations(images, [2])
    assert not torch.allclose(ours[0], theirs[0], atol=0.1)


def test_evaluation_after_a_step_uses_the_new_weights(monkeypatch):
    """Reordered copies of frozen weights must not be made of weights that train."""
    model, images = CLIPSeg(tiny_backbone(), DECODER, 1).eval(), photos()
    with torch.no_grad():
        first = model.backbone.activations(images, [4])
        for weight in model.backbone.trained_blocks.parameters():
            weight.data += 0.1  # not tracked, like a fused optimizer could
        second = model.backbone.activations(images, [4])
        monkeypatch.setattr(cpu, "_ONEDNN", False)
        torch.testing.assert_close(
            model.backbone.activations(images, [4]), second, rtol=1e-4, atol=1e-4
        )
    assert not torch.allclose(first[0], second[0], atol=0.1)


# ---- settings


@pytest.mark.parametrize("count", [-1, 5])
def test_impossible_numbers_of_blocks_raise(count):
    message = f"unfreeze_blocks must be 0 to 4, the number of blocks up to .*, not {count}"
    with pytest.raises(ValueError, match=message):
        CLIPSeg(tiny_backbone(), partial(DECODER, layers=(0, 3)), count)


def test_all_blocks_up_to_the_deepest_tapped_one_can_be_trained():
    model = CLIPSeg(tiny_backbone(), partial(DECODER, layers=(0, 3)), 4)
    activations = model.backbone.activations(photos(), [0, 3])
    assert all(tokens.requires_grad for tokens in activations)


def test_blocks_are_counted_from_the_layer_of_the_deconv_decoder():
    model = CLIPSeg(tiny_backbone(), partial(DeconvDecoder, layer=2), 1)
    assert list(model.backbone.trained_blocks) == ["2"]


def test_vitseg_cannot_train_blocks():
    with pytest.raises(ValueError, match="ViTBackbone cannot train blocks: set unfreeze_blocks"):
        CLIPSeg(ViTBackbone("tiny", pretrained=False), FiLMDecoder, 1)


def test_blocks_follow_the_decoders_cosine_with_their_own_rate(module, data, tmp_path):
    seen, step = [], module.training_step

    def training_step(batch, batch_idx):
        seen.append([group["lr"] for group in module.optimizers().param_groups])
        return step(batch, batch_idx)

    module.training_step = training_step
    trainer(tmp_path).fit(module, data)
    cosine = [1e-4 + 9e-4 * (1 + math.cos(math.pi * s / 4)) / 2 for s in range(4)]
    assert seen == [pytest.approx([rate, rate / 100]) for rate in cosine]


# ---- checkpoints


def checkpoint(module, data, tmp_path):
    fitted = trainer(tmp_path)
    fitted.fit(module, data)
    fitted.save_checkpoint(tmp_path / "own.ckpt")
    return tmp_path / "own.ckpt"


def test_checkpoint_stores_the_trained_blocks_and_no_other_part_of_clip(module, data, tmp_path):
    content = torch.load(checkpoint(module, data, tmp_path), weights_only=True)
    assert content["hyper_parameters"]["unfreeze_blocks"] == 2
    blocks = module.model.backbone.trained_blocks.state_dict()
    stored = {
        key.removeprefix("model.backbone.trained_blocks."): value
        for key, value in content["state_dict"].items()
        if not key.startswith("model.decoder.")
    }
    assert stored.keys() == blocks.keys()
    assert all(torch.equal(value, blocks[key]) for key, value in stored.items())


def test_fine_tuning_starts_from_the_trained_blocks_of_a_checkpoint(module, data, tmp_path):
    file, images = checkpoint(module, data, tmp_path), photos()
    backbone = partial(CLIPBackbone, "tiny", pretrained=False)
    more = CLIPSeg(backbone(), DECODER, 3).eval()
    start_from(more, file)
    torch.testing.assert_close(
        logits(more, images, TEXTS), logits(module.model.eval(), images, TEXTS)
    )
    with pytest.raises(ValueError, match=r"has no weights .*\. Set --model.unfreeze_blocks=2$"):
        start_from(CLIPSeg(backbone(), DECODER), file)


def test_hugging_face_gets_the_trained_blocks(tmp_path):
    model, image = trained_model(), picture(80)
    write_hugging_face(tmp_path, model, 80, None)
    assert distance(theirs(tmp_path, image, TEXTS), ours(model, image, TEXTS)) <= 1e-5
    back = load_model(tmp_path).model
    torch.testing.assert_close(ours(back, image, TEXTS), ours(model, image, TEXTS))
    model.backbone.trained_blocks.clear()
    assert distance(ours(back, image, TEXTS), ours(model, image, TEXTS)) > 0.1


@pytest.mark.slow
def test_onnx_gets_the_trained_blocks(tmp_path):
    model, images = trained_model(), photos()
    write_onnx(tmp_path, model, 64, None)
    session = onnxruntime.InferenceSession(tmp_path / ENCODER)
    patches, cls = session.run(None, {"images": images.numpy()})
    with torch.inference_mode():
        expected = torch.stack(model.encode(images).projected)
    tokens = torch.from_numpy(patches).flatten(2, 3)
    torch.testing.assert_close(tokens, expected[:, :, 1:], rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(torch.from_numpy(cls), expected[:, :, 0], rtol=1e-4, atol=1e-4)


def test_authors_format_is_refused(tmp_path):
    with pytest.raises(ValueError, match="the model has trained blocks of CLIP: export it to hf"):
        write_original(tmp_path / "x.pth", trained_model())
    assert not list(tmp_path.iterdir())


FEW = (
    "--trainer.max_steps=4",
    "--trainer.val_check_interval=2",
    "--trainer.limit_val_batches=1",
)
UNFREEZE = (*FEW, "--model.unfreeze_blocks=2", "--model.backbone_lr=0.01")


@pytest.fixture(scope="module")
def trained(miniature, tmp_path_factory):
    """Checkpoint of a run with two trained blocks."""
    folder = tmp_path_factory.mktemp("unfrozen") / "run"
    run(*fit(miniature, folder, *UNFREEZE))
    return folder / "checkpoints" / "last.ckpt"


@pytest.mark.slow
def test_resumed_run_equals_an_uninterrupted_one(trained, miniature, tmp_path):
    folder = tmp_path / "run"
    with pytest.raises(SystemExit):
        run(*fit(miniature, folder, *UNFREEZE, *signalled(signal.SIGTERM, 3)))
    run(*fit(miniature, folder, *FEW, "--ckpt_path=last"))
    assert same_state(trained.parents[1], folder)


def test_validate_and_load_model_give_the_logits_of_the_trained_model(
    trained, miniature, tmp_path, monkeypatch
):
    images, models = photos(), []
    step = CLIPSegModule.validation_step
    monkeypatch.setattr(
        CLIPSegModule,
        "validation_step",
        lambda self, *args: models.append(self.model) or step(self, *args),
    )
    more = ("--trainer.limit_val_batches=1", f"--ckpt_path={trained}")
    run(*arguments("validate", miniature, tmp_path / "run", *more))
    content = torch.load(trained, weights_only=True)["state_dict"]
    reference = CLIPSeg(CLIPBackbone("tiny", pretrained=False), FiLMDecoder).eval()
    blocks = reference.backbone.clip.visual.transformer.resblocks
    for index in (8, 9):  # put the trained weights in place of the pre-trained ones
        prefix = f"model.backbone.trained_blocks.{index}."
        own = {k.removeprefix(prefix): v for k, v in content.items() if k.startswith(prefix)}
        assert changed(own, blocks[index].state_dict()) == own.keys()
        blocks[index].load_state_dict(own)
    decoder = {k: v for k, v in content.items() if k.startswith("model.decoder.")}
    reference.load_state_dict({k.removeprefix("model."): v for k, v in decoder.items()})
    expected = logits(reference, images, TEXTS)
    for model in (models[0], load_model(trained).model):
        got = logits(model.eval(), images, TEXTS)  # validation ends in training mode
        torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-5)
