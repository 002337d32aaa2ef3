"""Time of whole commands, from the start of the process to its end."""

import os
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from PIL import Image
from transformers import CLIPSegProcessor

from clipseg_pl.convert.to_hugging_face import write_hugging_face
from tests.benchmarks.peers import SIDE, build_pair

PHOTOS, WIDTH, HEIGHT = 32, 640, 480
PROMPTS = ("a dog", "grass", "a red car", "the sky")
SCRIPT = Path(__file__).with_name("transformers_script.py")
ROUNDS = 5


class Case(NamedTuple):
    """A model folder in Hugging Face's format, a folder of photos, and one for the masks."""

    model: Path
    photos: Path
    out: Path


@pytest.fixture(scope="module")
def case(tmp_path_factory) -> Case:
    """Random weights with the files and sizes of CIDAS/clipseg-rd64-refined, and noise photos."""
    case = Case(*(tmp_path_factory.mktemp(name) for name in Case._fields))
    write_hugging_face(case.model, build_pair("refined").ours, SIDE, None)
    # also write tokenizer.json, which transformers loads faster than the vocabulary
    CLIPSegProcessor.from_pretrained(case.model).save_pretrained(case.model)
    rng = np.random.default_rng(0)
    for number in range(PHOTOS):
        noise = rng.integers(256, size=(HEIGHT // 20, WIDTH // 20, 3), dtype=np.uint8)
        photo = Image.fromarray(noise).resize((WIDTH, HEIGHT), Image.Resampling.BICUBIC)
        photo.save(case.photos / f"{number:02}.jpg")
    return case


def process(*command: str | Path) -> Callable[[], object]:
    """Return a function that runs Python with the default number of threads."""
    environment = {key: value for key, value in os.environ.items() if key != "OMP_NUM_THREADS"}
    return partial(
        subprocess.run,
        [sys.executable, *command],
        env=environment,
        check=True,
        capture_output=True,
    )


def ours(case: Case, photos: Path, model: str | Path, *more: str, prompts=PROMPTS):
    """Return the command `segment`; like the script of the peer, it writes masks only."""
    texts = [part for prompt in prompts for part in ("--prompt", prompt)]
    options = ("--checkpoint", model, "--out", case.out, "--overwrite", "--no-overlay", *more)
    return process("-m", "clipseg_pl", "segment", photos, *texts, *options)


def theirs(case: Case, photos: Path, prompts=PROMPTS):
    return process(SCRIPT, case.model, photos, case.out, *prompts)


def test_help(benchmark, record):
    benchmark.pedantic(process("-m", "clipseg_pl", "segment", "--help"), rounds=7)
    record("segment --help", benchmark.stats.stats.median, "s", "<= 1")


def test_one_photo_with_the_toy_model(case, in_turn, record):
    segment = ours(case, case.photos / "00.jpg", "toy", prompts=PROMPTS[:1])
    imports = process("-c", "import torch, open_clip")
    seconds = in_turn({"ours": segment, "imports": imports}, ROUNDS)
    record(
        "segment one photo with the toy model, whole command",
        seconds["ours"] / seconds["imports"],
        "of the time to import torch and open_clip",
        "<= 1.3",
        f"{seconds['ours']:.1f} s against {seconds['imports']:.1f} s",
    )


def test_one_photo(case, in_turn, record):
    photo, prompts = case.photos / "00.jpg", PROMPTS[:1]
    segment = ours(case, photo, case.model, "--precision", "float32", prompts=prompts)
    seconds = in_turn({"ours": segment, "peer": theirs(case, photo, prompts)}, ROUNDS)
    record(
        "segment one photo, 1 prompt, whole command: float32 both",
        seconds["peer"] / seconds["ours"],
        "x",
        ">= 1.5",
        f"{seconds['ours']:.1f} s against {seconds['peer']:.1f} s",
    )


def test_many_photos(case, in_turn, record):
    ways = {
        "float32": ours(case, case.photos, case.model, "--precision", "float32"),
        "auto": ours(case, case.photos, case.model),
        "peer": theirs(case, case.photos),
    }
    seconds = in_turn(ways, ROUNDS)
    assert len(list(case.out.glob("*_the_sky.png"))) == PHOTOS
    assert len(list(case.out.glob("*_the sky.png"))) == PHOTOS
    goals = {"float32": ("float32 both", 4), "auto": ("our default against the peer's", 10)}
    for way, (kind, goal) in goals.items():
        record(
            f"segment {PHOTOS} photos, {len(PROMPTS)} prompts, whole command: {kind}",
            seconds["peer"] / seconds[way],
            "x",
            f">= {goal}",
            f"{seconds[way]:.1f} s against {seconds['peer']:.1f} s",
        )
