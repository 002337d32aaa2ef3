"""The terms of the loss against torch, torchvision and cases computed by hand."""

import csv
import math

import pytest
import torch
from torch.nn import functional as F
from torchvision.ops import sigmoid_focal_loss

from clipseg_pl.training.losses import MaskLoss
from tests.command import arguments, run


def random_batch(prompts=3):
    target = torch.rand(prompts, 1, 8, 8) > 0.5
    valid = torch.rand(prompts, 1, 8, 8) > 0.3
    return torch.randn(prompts, 1, 8, 8) * 3, {"query_mask": target, "valid_mask": valid}


def one_row(targets, valid=None):
    """Return a batch of one prompt per list, whose image has one row of pixels."""
    mask = torch.tensor(targets, dtype=torch.bool)[:, None, None]
    valid = torch.ones_like(mask) if valid is None else torch.tensor(valid)[:, None, None]
    return {"query_mask": mask, "valid_mask": valid}


def logits_of(probabilities):
    return torch.logit(torch.tensor(probabilities)[:, None, None])


def test_default_is_bit_identical_to_the_mean_cross_entropy():
    logits, batch = random_batch()
    logits.requires_grad_()
    valid, target = batch["valid_mask"], batch["query_mask"].float()
    every = F.binary_cross_entropy_with_logits(logits, target, reduction="none")
    expected = (every * valid).sum() / valid.sum()
    loss = MaskLoss()(logits, batch)
    assert torch.equal(loss, expected)
    gradients = [torch.autograd.grad(value, logits)[0] for value in (loss, expected)]
    assert torch.equal(*gradients)


@pytest.mark.parametrize("gamma", [1.0, 2.0, 5.0])
def test_focal_equals_torchvision_on_valid_pixels(gamma):
    logits, batch = random_batch()
    valid, target = batch["valid_mask"], batch["query_mask"].float()
    expected = sigmoid_focal_loss(logits[valid], target[valid], -1, gamma, "mean")
    loss = MaskLoss(bce=0, focal=1, focal_gamma=gamma)(logits, batch)
    assert float(loss) == pytest.approx(float(expected), rel=1e-5)


def test_dice_by_hand():
    batch = one_row([[1, 1, 0, 0], [1, 0, 0, 0]], [[True] * 4, [True, True, False, False]])
    logits = logits_of([[0.5, 1.0 - 1e-7, 0.25, 1e-7], [0.5, 0.5, 0.9, 0.9]])
    # first: overlap 1.5 of 1.75 + 2; second: overlap 0.5 of 1 + 1 in two valid pixels
    expected = (1 - (3 + 1) / (3.75 + 1) + 1 - (1 + 1) / (2 + 1)) / 2
    assert float(MaskLoss(bce=0, dice=1)(logits, batch)) == pytest.approx(expected, rel=1e-5)


def test_dice_of_an_empty_target():
    batch = one_row([[0, 0, 0, 0]])
    dice = MaskLoss(bce=0, dice=1)
    assert float(dice(torch.full((1, 1, 1, 4), -200.0), batch)) == 0
    assert float(dice(torch.full((1, 1, 1, 4), 200.0), batch)) == pytest.approx(1 - 1 / 5)


@pytest.mark.parametrize("valid", [True, False])
def test_extreme_logits_give_finite_losses_and_gradients(valid):
    logits = torch.tensor([-1e4, -200, 0, 200, 1e4]).view(1, 1, 1, 5).requires_grad_()
    batch = one_row([[0, 1, 1, 1, 0]], [[valid] * 5])
    loss = MaskLoss(dice=1, focal=1)(logits, batch)
    loss.backward()
    assert loss.isfinite() and logits.grad.isfinite().all()
    assert valid or (loss.item() == 0 and not logits.grad.any())


def test_terms_are_added_with_their_weights():
    logits, batch = random_batch()
    loss = MaskLoss(bce=0.5, dice=2, focal=3)
    terms = loss.terms(logits, batch)
    alone = {
        "bce": MaskLoss(),
        "dice": MaskLoss(bce=0, dice=1),
        "focal": MaskLoss(bce=0, focal=1),
    }
    assert {name: float(term) for name, term in terms.items()} == {
        name: float(one(logits, batch)) for name, one in alone.items()
    }
    expected = 0.5 * terms["bce"] + 2 * terms["dice"] + 3 * terms["focal"]
    assert float(loss(logits, batch)) == pytest.approx(float(expected))
    assert list(MaskLoss(dice=1).terms(logits, batch)) == ["bce", "dice"]


def test_half_precision_logits_are_computed_in_float32():
    logits = torch.randn(2, 1, 352, 352).half()
    batch = {"query_mask": logits > 1, "valid_mask": torch.ones_like(logits, dtype=torch.bool)}
    loss = MaskLoss(dice=1, focal=1)
    assert torch.equal(loss(logits, batch), loss(logits.float(), batch))
    assert loss(logits, batch).isfinite()


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"bce": 0.0}, "all weights of the loss are 0: set loss.bce, loss.dice or loss.focal"),
        ({"dice": -1.0}, "loss.dice must be a weight of at least 0, got -1"),
        ({"focal": math.nan}, "loss.focal must be a weight of at least 0, got nan"),
        ({"focal_gamma": 0.5}, "loss.focal_gamma must be at least 1, got 0.5"),
    ],
)
def test_wrong_values_raise(values, message):
    with pytest.raises(ValueError, match=message):
        MaskLoss(**values)


def test_command_line_logs_the_parts_and_resumes_with_the_stored_loss(miniature, tmp_path, capsys):
    quick = ("--trainer.limit_val_batches=0", "--trainer.log_every_n_steps=1")
    mixed = ("--model.loss.dice=1", "--model.loss.focal=2", "--model.warmup_steps=1")
    run(*arguments("fit", miniature, tmp_path / "run", *quick, *mixed))
    rows = list(csv.DictReader((tmp_path / "run" / "metrics.csv").open()))
    for row in rows:
        parts = {name: float(row[f"train/loss_{name}"]) for name in ("bce", "dice", "focal")}
        expected = parts["bce"] + parts["dice"] + 2 * parts["focal"]
        assert float(row["train/loss"]) == pytest.approx(expected)
    last = tmp_path / "run" / "checkpoints" / "last.ckpt"
    stored = torch.load(last, weights_only=True)["hyper_parameters"]
    assert stored["loss"] == {"bce": 1.0, "dice": 1.0, "focal": 2.0, "focal_gamma": 2.0}
    assert stored["warmup_steps"] == 1
    capsys.readouterr()
    more = ("--trainer.max_steps=4", f"--ckpt_path={last}")
    run(*arguments("fit", miniature, tmp_path / "run", *quick, *more))
    assert (
        "using model.loss.dice = 1.0 of the checkpoint, instead of 0.0" in capsys.readouterr().err
    )
    resumed = list(csv.DictReader((tmp_path / "run" / "metrics.csv").open()))
    assert [row["train/loss_focal"] != "" for row in resumed] == [True]


def test_checkpoint_without_a_stored_loss_resumes_with_the_configured_loss(
    trained, miniature, tmp_path
):
    content = torch.load(trained / "checkpoints" / "last.ckpt", weights_only=True)
    for key in ("loss", "warmup_steps"):
        del content["hyper_parameters"][key]
    torch.save(content, tmp_path / "old.ckpt")
    quick = ("--trainer.limit_val_batches=0", "--trainer.max_steps=4", "--model.loss.dice=1")
    old = f"--ckpt_path={tmp_path / 'old.ckpt'}"
    run(*arguments("fit", miniature, tmp_path / "run", *quick, old))
    stored = torch.load(tmp_path / "run" / "checkpoints" / "last.ckpt", weights_only=True)
    assert stored["hyper_parameters"]["loss"]["dice"] == 1.0


def test_command_line_reports_a_wrong_weight(miniature, tmp_path, capsys):
    with pytest.raises(SystemExit):
        run(*arguments("fit", miniature, tmp_path / "run", "--model.loss.bce=0"))
    message = capsys.readouterr().err
    assert message.startswith("clipseg_pl: all weights of the loss are 0: set loss.bce, loss.dice")
    assert not (tmp_path / "run").exists()
