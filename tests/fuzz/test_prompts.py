"""Prompts of any length and letters: on the command line, in files, in CLIP, in names of files."""

import argparse
import json
import warnings

import numpy as np
import pytest
from hypothesis import strategies as st

from clipseg_pl.coco_results import ResultList
from clipseg_pl.demo.result import write_masks, write_table
from clipseg_pl.demo.session import split_phrases
from clipseg_pl.mask_names import join_name, name_files
from clipseg_pl.models.clip_backbone import CLIPBackbone
from clipseg_pl.overlay import draw_overlay
from clipseg_pl.prompt_options import add_prompt_options, collect_prompts, shorten
from clipseg_pl.segmentation import Segmentation
from tests.fuzz.contained import inputs, try_out
from tests.fuzz.mutated import changed

LETTERS = st.characters(exclude_categories=())  # control characters, surrogates and all
ODD = st.sampled_from(
    [
        *("\0", "\x1b[2J", "\u202ea dog", "\ud800", "\udcff", "&#0;&lt;b>", "../../a", "a\r\nb"),
        *("a" * 50_000, "qzjx" * 20_000, "a dog " * 20_000, "\u0301" * 3000, "🐶" * 3000),
        *(" ", "{0}", "%s"),
    ]
)
PROMPTS = st.text(LETTERS, max_size=60) | ODD
PHOTO = np.zeros((24, 32, 3), np.uint8)


@inputs
def test_prompts_in_clip(inputs):
    backbone = CLIPBackbone("toy")

    def read(prompt):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            assert backbone.embed_text([prompt]).isfinite().all()

    try_out(read, PROMPTS, inputs, documented=ValueError)


@inputs
def test_prompts_as_names_and_in_pictures(tmp_path, inputs):
    def read(prompts):
        names = name_files(prompts)
        assert len(set(names)) == len(names)
        for name in names:
            (tmp_path / join_name("photo", f"_{name}.png")).touch()
            assert (tmp_path / f"photo_{name}.png").resolve().parent == tmp_path
        masks = np.ones((len(prompts), *PHOTO.shape[:2]), bool)
        probability = masks.astype(np.float32)
        found = Segmentation(tuple(prompts), probability, np.ones(len(prompts)), 0.5, 0.0)
        overlay = draw_overlay(PHOTO, masks, prompts)
        write_masks(found, overlay, tmp_path)
        assert "<b>" not in write_table(found).replace("<b style", "")
        results = ResultList(tmp_path / "masks.json")
        results.append("photo.png", 0, prompts, masks, [0.5] * len(prompts))
        with (tmp_path / "masks.json").open("wb") as stream:
            results.join(stream, everyone=False)
        results.clear(everyone=False)
        assert [e["prompt"] for e in json.loads((tmp_path / "masks.json").read_text())] == prompts

    try_out(read, st.lists(PROMPTS, min_size=1, max_size=5), inputs, documented=())


@inputs
def test_prompts_on_the_command_line(tmp_path, inputs):
    parser = argparse.ArgumentParser(exit_on_error=False)
    parser.error = lambda message: (_ for _ in ()).throw(ValueError(message.replace("\n", " ")))
    add_prompt_options(parser)
    file = tmp_path / "prompts.txt"
    option = st.sampled_from(
        ["--prompt", "--prompts", "--image-prompt", "--mask", "--box", "--with", "--weight"]
    )
    value = PROMPTS | st.sampled_from([str(file), "1,2,3,4", "nan,1,inf,2", "0.5", "nan", "-1"])
    lines = changed("a dog\ngrass\n\ncafé\n".encode())

    def read(given):
        options, content = given
        file.write_bytes(content)
        try:
            asked = parser.parse_args([part for pair in options for part in pair])
        except argparse.ArgumentError as error:
            raise ValueError("refused") from error
        for prompt in collect_prompts(parser, asked):
            assert "\n" not in shorten(str(prompt)) and len(shorten(str(prompt))) <= 60

    given = st.tuples(st.lists(st.tuples(option, value), max_size=5), lines)
    try_out(read, given, inputs)


@pytest.mark.parametrize("separator", [",", ";", "\n"])
def test_a_megabyte_of_separators_is_no_prompt(separator):
    assert split_phrases(separator * 1_000_000) == []
