"""Panels show the query image, the prompt, the target and the prediction."""

import numpy as np
import torch

from clipseg_pl.training.callbacks.panels import draw_panel, tint
from datamodules.phrasecut import PhraseCutDataModule


def test_panel_shows_query_prompt_target_and_prediction(miniature):
    data = PhraseCutDataModule(str(miniature), image_size=64, batch_size=3, num_workers=0)
    data.setup("validate")
    batch = next(iter(data.val_dataloader()))
    chosen = sorted({int(batch["prompt_index"][0]), len(batch["phrase"]) - 1})
    probability = batch["query_mask"][chosen].float().numpy()
    panel = np.array(draw_panel(batch, chosen, probability, visual=True))
    height, width, step = 64, 64, 64 + 4
    first = panel[16 : 16 + height]
    cells = [first[:, c * step : c * step + width] for c in range(4)]
    query = batch["query_image"][batch["query_index"][chosen[0]]].permute(1, 2, 0).numpy()
    assert (cells[0] == query).all()
    assert (cells[1] == batch["visual_prompt"][0].permute(1, 2, 0).numpy()).all()
    assert (cells[2] == cells[3]).all()  # the prediction equals the target
    assert (cells[2] == tint(query, batch["query_mask"][chosen[0], 0].float().numpy())).all()


def test_panel_shows_text_prompts_and_marks_negatives(miniature):
    data = PhraseCutDataModule(str(miniature), image_size=64, batch_size=3, num_workers=0)
    data.setup("validate")
    batch = next(iter(data.val_dataloader()))
    present, absent = (batch["negative"].tolist().index(flag) for flag in (False, True))
    batch["text_prompt"][absent] = batch["text_prompt"][present]
    panel = draw_panel(batch, [present, absent], torch.rand(2, 1, 64, 64).numpy(), visual=False)
    cells = [np.array(panel)[16 + 68 * row : 80 + 68 * row, 68:132] for row in (0, 1)]
    ink = [int((cell < 128).sum()) for cell in cells]
    assert ink[1] > ink[0] > 0  # the second cell also contains "(absent)"


def test_panel_without_predictions_has_the_first_three_columns(miniature):
    data = PhraseCutDataModule(str(miniature), image_size=64, batch_size=3, num_workers=0)
    data.setup("validate")
    batch = next(iter(data.val_dataloader()))
    every = range(len(batch["phrase"]))
    whole = np.array(draw_panel(batch, every, torch.rand(len(every), 1, 64, 64).numpy()))
    assert (np.array(draw_panel(batch, every)) == whole[:, : 3 * 68]).all()


def test_tint_reddens_with_strength():
    image = np.full((2, 2, 3), 100, np.uint8)
    drawn = tint(image, np.array([[0.0, 0.5], [0.75, 1.0]], np.float32)).astype(int)
    redness = (drawn[..., 0] - drawn[..., 2]).ravel()
    assert redness[0] == 0 and (np.diff(redness) > 0).all()
