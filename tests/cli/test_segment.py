"""The command `segment`."""

import json
import shutil

import numpy as np
import pytest
import torch
from PIL import Image

from clipseg_pl.cli.commands import segment
from clipseg_pl.inference.segmenter import Edits, ImagePrompt, Segmenter
from datamodules.datasets.coco_json import read_coco
from datamodules.datasets.image_folder import ImageFolder
from datamodules.toy.scenes.scene import draw_scene
from tests.command import EXPERIMENTS, arguments, results, run
from tests.http_server import Answer


@pytest.fixture(scope="module")
def checkpoint(miniature, tmp_path_factory):
    folder = tmp_path_factory.mktemp("segment")
    run(*arguments("fit", miniature, folder, "--trainer.max_steps=1"))
    return folder / "checkpoints" / "best.ckpt"


@pytest.fixture
def photo(tmp_path):
    return write_photo(tmp_path / "photo.png", 0)


def write_photo(file, seed, size=(90, 150)):
    pixels = np.random.default_rng(seed).integers(0, 255, (*size, 3), np.uint8)
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(file)
    return file


def below(folder):
    return {file.relative_to(folder).as_posix() for file in folder.rglob("*") if file.is_file()}


def test_command_writes_masks_and_an_overlay(checkpoint, photo, tmp_path, capsys):
    out = tmp_path / "masks"
    args = [str(photo), "--prompt", "a red square", "--prompt", "grass"]
    args += ["--checkpoint", str(checkpoint), "--out", str(out)]
    segment.main(args)
    assert "photo_a_red_square.png" in capsys.readouterr().out
    names = {"photo_a_red_square.png", "photo_grass.png", "photo_overlay.png"}
    assert below(out) == names
    mask = np.array(Image.open(out / "photo_grass.png"))
    assert mask.shape == (90, 150) and set(np.unique(mask)) <= {0, 255}
    before = {name: (out / name).stat().st_mtime_ns for name in names}
    with pytest.raises(SystemExit, match="--overwrite"):
        segment.main(args)
    assert before == {name: (out / name).stat().st_mtime_ns for name in names}
    segment.main([*args, "--overwrite"])


def test_masks_equal_those_of_the_segmenter(checkpoint, photo, tmp_path):
    example = write_photo(tmp_path / "an example.png", 1)
    mask = np.zeros((90, 150), np.uint8)
    mask[20:60, 30:90] = 255
    Image.fromarray(mask).save(tmp_path / "its: mask.png")
    segment.main(
        [
            *(str(photo), "--checkpoint", str(checkpoint), "--out", str(tmp_path / "out")),
            *("--prompt", "a disc", "--image-prompt", str(example)),
            *("--mask", str(tmp_path / "its: mask.png")),
            *("--image-prompt", str(example), "--box", "30,20,90,60", "--with", str(example)),
            *("--format", "npy", "--precision", "float32", "--tile", "100"),
        ]
    )
    saved = np.load(tmp_path / "out" / "photo.npy")
    segmenter = Segmenter.from_pretrained(checkpoint, precision="float32")
    segmenter.tile = 100
    by_box = ImagePrompt(example, box=(30, 20, 90, 60))
    prompts = ["a disc", ImagePrompt(example, mask), [by_box, ImagePrompt(example)]]
    expected = segmenter(photo, prompts).probability
    assert saved.shape == expected.shape and np.allclose(saved, expected, atol=1e-3)
    assert not np.allclose(saved[0], saved[1], atol=1e-3)
    assert not np.allclose(saved[1], saved[2], atol=1e-3)


@pytest.mark.parametrize("kind", ["photo", "example", "mask"])
def test_photos_and_examples_are_never_overwritten(checkpoint, tmp_path, monkeypatch, kind):
    monkeypatch.chdir(tmp_path)
    cat, other = write_photo(tmp_path / "c" / "cat.png", 0), tmp_path / "c" / "cat_a_dog.png"
    write_photo(other, 1)
    whole = other.read_bytes()
    (tmp_path / "same").symlink_to(tmp_path / "c")
    args = [str(cat), *([str(other)] if kind == "photo" else [])]
    args += ["--prompt", "a dog", f"--checkpoint={checkpoint}", "--overwrite"]
    args += {
        "photo": [],
        "example": ["--prompt", "sky", "--with", str(other)],
        "mask": ["--prompt", "sky", "--with", str(cat), "--mask", str(other)],
    }[kind]
    for out in ("c", "same"):
        with pytest.raises(SystemExit, match=r"cat_a_dog.png would replace a photo or an example"):
            segment.main([*args, "--out", out])
    assert other.read_bytes() == whole and len(below(tmp_path / "c")) == 2


def test_subfolders_are_kept_and_unreadable_photos_are_listed(
    checkpoint, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    for number, name in enumerate(("a.png", "sub/a.png", "sub/c.jpg", "z.png")):
        write_photo(tmp_path / "album" / name, number, size=(40 + number, 60))
    whole = (tmp_path / "album" / "sub" / "c.jpg").read_bytes()
    (tmp_path / "album" / "sub" / "c.jpg").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "album" / "b.jpg").write_text("no photo")
    out = tmp_path / "album" / "masks"
    args = ["album", "--prompt", "sky", "--checkpoint", str(checkpoint), "--out", str(out)]
    for _ in range(2):  # the second run must not segment its own masks
        with pytest.raises(SystemExit) as exited:
            segment.main([*args, "--overwrite"])
        lines = str(exited.value).splitlines()
        assert len(lines) == 2
        assert lines[0].startswith("clipseg_pl: skipped album/b.jpg: cannot be read")
        assert lines[1].startswith("clipseg_pl: skipped album/sub/c.jpg: cannot be read")
        names = {f"{n}_{kind}.png" for n in ("a", "sub/a", "z") for kind in ("sky", "overlay")}
        assert below(out) == names
        assert Image.open(out / "z_sky.png").size == (60, 43)
        assert "3 of 5 photos" in capsys.readouterr().out


def test_photos_and_examples_may_be_urls(checkpoint, tmp_path, server, capsys):
    photo, mask = write_photo(tmp_path / "photo.png", 0), tmp_path / "mask.png"
    Image.fromarray(np.tri(90, 150, dtype=np.uint8) * 255).save(mask)
    server.answers["/a/photo.png"] = Answer(photo.read_bytes())
    server.answers["/mask"] = Answer(mask.read_bytes())
    masks = []
    for out, start in (("files", str(tmp_path)), ("urls", server.url)):
        photo_given = f"{start}/photo.png" if out == "files" else f"{start}/a/photo.png?size=1"
        mask_given = str(mask) if out == "files" else f"{start}/mask"
        args = [photo_given, "--image-prompt", photo_given, "--mask", mask_given, "--no-overlay"]
        segment.main([*args, f"--checkpoint={checkpoint}", f"--out={tmp_path / out}"])
        masks.append((tmp_path / out / "photo_photo.png").read_bytes())
    assert masks[0] == masks[1] and len(below(tmp_path / "urls")) == 1


def test_photos_that_cannot_be_downloaded_are_listed(checkpoint, photo, tmp_path, server):
    server.answers["/page"] = Answer(b"<html>")
    urls = [f"{server.url}/{name}" for name in ("missing.jpg", "page")]
    for given in ([urls[0], str(photo), urls[1]], urls[:1]):
        with pytest.raises(SystemExit) as exited:
            args = [*given, "--prompt", "sky", "--checkpoint", str(checkpoint), "--overwrite"]
            segment.main([*args, "--out", str(tmp_path / "out")])
        lines = str(exited.value).splitlines()
        assert lines[0] == f"clipseg_pl: skipped {urls[0]}: HTTP 404"
        assert len(lines) == len(given) - (str(photo) in given)
        assert below(tmp_path / "out") == {"photo_sky.png", "photo_overlay.png"}
    with pytest.raises(SystemExit, match=f"^clipseg_pl: {urls[0]}: HTTP 404$"):
        args = [str(photo), "--image-prompt", urls[0], "--checkpoint", str(checkpoint)]
        segment.main([*args, "--out", str(tmp_path / "example")])


def test_rle_writes_all_photos_to_one_file(checkpoint, photo, tmp_path):
    other = write_photo(tmp_path / "other" / "photo.png", 1, size=(33, 44))
    out = tmp_path / "out"
    args = [str(other), str(photo), "--prompt", "a disc", "--prompt", "sky", "--no-overlay"]
    segment.main([*args, "--format=rle", f"--checkpoint={checkpoint}", f"--out={out}"])
    assert below(out) == {"masks.json"}
    entries = json.loads((out / "masks.json").read_text())
    assert [(entry["file_name"], entry["prompt"]) for entry in entries] == [
        (name, prompt) for name in ("other/photo.png", "photo.png") for prompt in ("a disc", "sky")
    ]
    assert entries[0]["segmentation"]["size"] == [33, 44]


@pytest.mark.parametrize("form", ["coco", "yolo"])
def test_dataset_without_masks_is_announced(checkpoint, photo, tmp_path, capsys, form):
    args = [str(photo), "--prompt=sky", f"--checkpoint={checkpoint}", f"--format={form}"]
    line = "nothing was found: the dataset lists the photos without annotations"
    for threshold in ("1", "0"):
        out = f"--out={tmp_path / threshold}"
        segment.main([*args, out, f"--threshold={threshold}", "--no-overlay"])
        assert (line in capsys.readouterr().out) == (threshold == "1")


def test_name_pattern_names_the_masks(checkpoint, photo, tmp_path):
    args = [str(photo), "--prompt=a crack", "--no-overlay", f"--checkpoint={checkpoint}"]
    out = tmp_path / "out"
    segment.main([*args, "--name-pattern={photo}__{prompt}", f"--out={out}"])
    assert below(out) == {"photo__a_crack.png"}


def test_argmax_writes_a_label_map(checkpoint, photo, tmp_path):
    args = [str(photo), "--prompt", "a disc", "--prompt", "sky", "--argmax", "--threshold", "0.1"]
    segment.main([*args, f"--checkpoint={checkpoint}", f"--out={tmp_path / 'out'}"])
    assert below(tmp_path / "out") == {"photo_labels.png", "photo_overlay.png", "prompts.json"}
    labels = np.array(Image.open(tmp_path / "out" / "photo_labels.png"))
    assert labels.shape == (90, 150) and labels.max() <= 2


@pytest.fixture
def scene(tmp_path):
    """Folder with a scene of the toy world that the toy model segments."""
    scene = draw_scene(np.random.default_rng(0), 128)
    Image.fromarray(scene.image[:, :120]).save(tmp_path / "scene.png")
    Image.fromarray(scene.things[0].mask[:, :120]).save(tmp_path / "thing.png")
    return tmp_path


@pytest.fixture(scope="module")
def toy():
    return Segmenter.from_pretrained("toy", precision="float32")


def test_coco_dataset_is_read_back_without_loss(scene, toy):
    words = ["red", "grass", "a square"]
    args = [f"--prompt={word}" for word in words] + ["--format=coco", f"--out={scene / 'out'}"]
    segment.main([str(scene / "scene.png"), *args, "--checkpoint=toy", "--precision=float32"])
    source = ImageFolder(read_coco(scene / "out" / "annotations.coco.json", scene))
    assert [source.phrases[source.phrase(task)] for task in range(len(source))] == words
    masks = toy(scene / "scene.png", words).masks
    assert all((source.mask(row) == mask).all() and mask.any() for row, mask in enumerate(masks))


@pytest.mark.slow
def test_fit_trains_on_a_coco_dataset(checkpoint, miniature, tmp_path):
    for number in range(12):
        write_photo(tmp_path / "album" / f"{number}.png", number)
    args = [str(tmp_path / "album"), "--prompt=sky", "--prompt=grass", "--format=coco"]
    segment.main([*args, f"--checkpoint={checkpoint}", f"--out={tmp_path / 'out'}"])
    table = {"table": "out/annotations.coco.json", "images": "album"}
    options = (f"--data.init_args.train={json.dumps(table)}", "--trainer.max_steps=1")
    overlay = EXPERIMENTS / "data" / "image_folder.yaml"
    run(*arguments("fit", tmp_path, tmp_path / "run", *options, configs=(overlay,)))
    sizes = results(tmp_path / "run")["dataset_sizes"]
    assert sizes["train"] + sizes["val"] == 2 * 12


def edited(scene, *options):
    """Segment the scene, and return the names of the results and the first one."""
    out = scene / "out"
    fixed = (f"--out={out}", "--overwrite", "--checkpoint=toy", "--precision=float32")
    segment.main([str(scene / "scene.png"), *options, *fixed, "--no-overlay"])
    names = sorted(below(out))
    return names, np.array(Image.open(out / names[0]))


def test_union_and_minus_combine_the_masks_of_prompts(scene, toy, capsys):
    red, grass, zevak = toy(scene / "scene.png", ["red", "grass", "zevak"]).masks
    assert (red & ~grass).any() and (grass & ~red).any() and ((red | grass) & zevak).any()
    words = ("--prompt", "red", "--minus", "zevak", "--prompt", "grass")
    names, image = edited(scene, *words, "--union")
    assert names == ["scene_union.png"]
    assert (image == 255 * ((red | grass) & ~zevak)).all() and image.shape == (128, 120)
    assert f"'red, grass' covers {image.mean() / 255:.1%}" in capsys.readouterr().out


def test_minus_image_removes_what_the_example_shows(scene, toy):
    example = ImagePrompt(scene / "scene.png", scene / "thing.png")
    grass, thing = toy(scene / "scene.png", ["grass", example]).masks
    assert (grass & thing).any()
    minus = ("--minus-image", str(scene / "scene.png"), "--mask", str(scene / "thing.png"))
    names, image = edited(scene, "--prompt", "grass", *minus)
    assert names == ["scene_grass.png"] and (image == 255 * (grass & ~thing)).all()


def test_grown_inverted_and_feathered_mask(scene, toy, capsys):
    result = toy(scene / "scene.png", ["red"])
    edits = ("--grow", "-2.5", "--invert", "--feather", "3")
    _, image = edited(scene, "--prompt", "red", *edits)
    assert (image == result.edit(Edits(grow=-2.5, invert=True, feather=3))[0]).all()
    hard = result.edit(Edits(grow=-2.5, invert=True))
    assert f"all but 'red' covers {hard.mean() / 255:.1%}" in capsys.readouterr().out
    edited(scene, "--prompt", "red", "--invert", "--threshold=1")
    assert "'red' not found" in capsys.readouterr().out


def test_cutout_has_the_mask_as_alpha(scene, toy):
    names, image = edited(scene, "--prompt", "red", "--cutout")
    assert names == ["scene_red_cutout.png"]
    assert (image[..., :3] == np.array(Image.open(scene / "scene.png"))).all()
    assert (image[..., 3] == 255 * toy(scene / "scene.png", ["red"]).masks[0]).all()


def test_soft_format_maps_probabilities_to_grey(scene, toy):
    names, image = edited(scene, "--prompt", "red", "--format=soft")
    expected = toy(scene / "scene.png", ["red"]).probability[0] * 255
    assert names == ["scene_red_soft.png"] and image.dtype == np.uint8
    assert np.abs(image - expected).max() <= 0.51


def test_existing_union_is_not_overwritten(scene):
    (scene / "out").mkdir()
    (scene / "out" / "scene_union.png").touch()
    args = [str(scene / "scene.png"), "--prompt=red", "--union", f"--out={scene / 'out'}"]
    with pytest.raises(SystemExit, match=r"scene_union.png exists"):
        segment.main([*args, "--checkpoint=toy"])


def test_absent_cut_empties_masks_and_verbose_prints_the_settings(
    checkpoint, photo, tmp_path, capsys
):
    args = [str(photo), "--prompt", "sky", f"--checkpoint={checkpoint}", "--verbose"]
    segment.main([*args, f"--out={tmp_path / 'default'}"])
    output = capsys.readouterr().out
    content = torch.load(checkpoint, weights_only=True)
    for text in (
        f"checkpoint  {checkpoint}",
        f"threshold   {content['threshold']:g} (stored in the checkpoint)",
        "absent cut  0 (default)",
        "device      ",
        "model size  64",
        ", presence 0.",
        " ms per photo",
    ):
        assert text in output
    segment.main([*args, f"--out={tmp_path / 'cut'}", "--absent-cut=1", "--threshold=0"])
    cut = capsys.readouterr().out
    assert "threshold   0 (given)" in cut and "absent cut  1 (given)" in cut
    assert "'sky' not found" in cut
    assert not np.array(Image.open(tmp_path / "cut" / "photo_sky.png")).any()
    segment.main([*args, f"--out={tmp_path / 'stored'}", "--absent-cut=stored"])
    line = f"absent cut  {content['absent_cut']:g} (stored in the checkpoint)"
    assert line in capsys.readouterr().out


def test_threshold_of_a_class_is_used_unless_a_threshold_is_given(
    checkpoint, photo, tmp_path, capsys
):
    content = torch.load(checkpoint, weights_only=True)
    torch.save({**content, "class_thresholds": {"wall crack": 1.0}}, tmp_path / "own.ckpt")
    prompts = ["--prompt", "Wall crack", "--prompt", "sky", "--threshold=0"]
    args = [str(photo), f"--checkpoint={tmp_path / 'own.ckpt'}", "--verbose", *prompts]
    segment.main([*args[:-1], f"--out={tmp_path / 'stored'}"])
    output = capsys.readouterr().out
    assert "threshold   1 for 'Wall crack' (of its class)" in output
    assert "'Wall crack' not found" in output and "for 'sky'" not in output
    segment.main([*args, f"--out={tmp_path / 'given'}"])
    output = capsys.readouterr().out
    assert "'Wall crack' covers 100.0%" in output and "of its class" not in output


def test_too_long_texts_are_truncated_with_a_one_line_warning(checkpoint, photo, tmp_path, capsys):
    text = " ".join(f"word{number}" for number in range(500))
    out = tmp_path / "out"
    args = [str(photo), "--prompt", text, f"--checkpoint={checkpoint}", f"--out={out}"]
    segment.main([*args, "--prefixes=shuffle_plus"])
    captured = capsys.readouterr()
    (line,) = captured.err.splitlines()
    assert "uses only the first 75 tokens of 'a photo of a word0" in line and len(line) < 180
    assert "and 8 more such texts" in line
    assert all(len(line) < 200 + len(str(tmp_path)) for line in captured.out.splitlines())
    assert len(below(out)) == 2


@pytest.mark.parametrize("form", ["png", "rle"])
def test_finished_photos_remain_after_an_interrupt(checkpoint, tmp_path, monkeypatch, capsys, form):
    for number in range(4):
        write_photo(tmp_path / "album" / f"{number}.png", number)
    segment_one, started = Segmenter.segment, []

    def interrupt_third(self, photo, prompts):
        started.append(photo)
        if len(started) == 3:
            raise KeyboardInterrupt
        return segment_one(self, photo, prompts)

    monkeypatch.setattr(Segmenter, "segment", interrupt_third)
    out = tmp_path / "out"
    args = [str(tmp_path / "album"), "--prompt", "sky", f"--checkpoint={checkpoint}"]
    with pytest.raises(SystemExit) as exited:
        segment.main([*args, f"--out={out}", f"--format={form}", "--no-overlay"])
    assert exited.value.code == 130
    lines = [line for line in capsys.readouterr().err.splitlines() if "clipseg_pl" in line]
    assert len(lines) == 1 and f"results so far are in {out}" in lines[0]
    assert "--overwrite" in lines[0]
    if form == "png":
        assert below(out) == {"0_sky.png", "1_sky.png"}
    else:
        entries = json.loads((out / "masks.json").read_text())
        assert [entry["file_name"] for entry in entries] == ["0.png", "1.png"]
        assert below(out) == {"masks.json"}


@pytest.mark.parametrize(
    "error", [torch.OutOfMemoryError("CUDA out of memory."), MemoryError("Unable to allocate")]
)
def test_out_of_memory_is_one_line(checkpoint, photo, tmp_path, monkeypatch, error):
    def fail(*_):
        raise error

    monkeypatch.setattr(Segmenter, "segment", fail)
    args = [str(photo), "--prompt", "sky", f"--checkpoint={checkpoint}", f"--out={tmp_path / 'o'}"]
    with pytest.raises(SystemExit, match="out of memory: use fewer prompts") as exited:
        segment.main(args)
    assert "\n" not in str(exited.value)
    monkeypatch.setattr(Segmenter, "segment", lambda *_: 1 + "a bug")
    with pytest.raises(TypeError):
        segment.main(args)


def test_tilde_is_expanded_to_the_home_folder(checkpoint, photo, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("HOME", str(tmp_path))
    shutil.copy(checkpoint, tmp_path / "copy.ckpt")
    (tmp_path / "words.txt").write_text("sky")
    options = ("--prompts=~/words.txt", "--checkpoint=~/copy.ckpt", "--out=~/out", "--verbose")
    segment.main([str(photo), *options])
    assert "stored in the checkpoint" in capsys.readouterr().out
    assert below(tmp_path / "out") == {"photo_sky.png", "photo_overlay.png"}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"photo": "missing.jpg"}, "missing.jpg: no such photo"),
        ({"photo": "empty"}, "empty: contains no photos"),
        ({"photo": "*.gif"}, "*.gif: matches no photos"),
        ({"photo": "broken.jpg"}, "broken.jpg: cannot be read as an image"),
        ({"--checkpoint": "missing.ckpt"}, "no checkpoint missing.ckpt"),
        (
            {"--checkpoint": "owner/name"},
            "no checkpoint owner/name: no such file or folder",
        ),
        ({"--checkpoint": "owner/name", "--out": "text.pth"}, "text.pth is a file"),
        ({"--checkpoint": "owner/name", "photo": "missing.jpg"}, "missing.jpg: no such photo"),
        ({"--checkpoint": "text.ckpt"}, "text.ckpt: not a checkpoint"),
        ({"--checkpoint": "text.pth"}, "text.pth: not a weights file"),
        ({"--prompt": " "}, "empty prompt"),
        ({"--out": "text.pth"}, "text.pth is a file"),
        ({"--device": "abacus"}, "--device abacus is not available"),
        ({"--device": "meta"}, "--device meta is not available; choose from cpu"),
        ({"--with": "missing.jpg"}, "missing.jpg: no such photo"),
        ({"--with": "photo.png", "--mask": "empty.png"}, "the mask is empty"),
        (
            {"--with": "photo.png", "--mask": "small.png"},
            "mask is 4 x 4 pixels, but its image is 150 x 90",
        ),
        ({"--with": "photo.png", "--box": "4,4,4,9"}, "box contains no pixel"),
    ],
)
def test_user_errors_are_one_line(
    checkpoint, photo, tmp_path, monkeypatch, capsys, change, message
):
    monkeypatch.chdir(tmp_path)
    for name in ("text.ckpt", "text.pth", "broken.jpg"):
        (tmp_path / name).write_text("neither weights nor a photo")
    (tmp_path / "empty").mkdir()
    Image.new("L", (150, 90)).save("empty.png")
    Image.new("L", (4, 4), 255).save("small.png")
    before = below(tmp_path)
    options = {"--checkpoint": str(checkpoint), "--prompt": "a dog", "--out": "masks"} | change
    first = options.pop("photo", str(photo))
    args = [first, *(part for pair in options.items() for part in pair)]
    with pytest.raises(SystemExit) as exited:
        segment.main(args)
    assert message in str(exited.value) and "\n" not in str(exited.value)
    assert not (tmp_path / "masks").exists() and below(tmp_path) == before
    assert not capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("", "give --prompt TEXT, --image-prompt IMAGE or --prompts FILE"),
        ("--prompt sky --threshold 1.1", "--threshold: must be in [0, 1], not 1.1"),
        ("--prompt sky --threshold nan", "--threshold: must be in [0, 1], not nan"),
        ("--prompt sky --absent-cut -1", "--absent-cut: must be in [0, 1], not -1"),
        ("--prompt sky --tile 0", "--tile: must be an integer of at least 32 pixels, not 0"),
        ("--prompt sky --weight 0.5", "--weight needs a text and an example"),
        ("--prompt sky --precision half", "--precision: invalid choice: 'half'"),
        ("--prompt sky --argmax --format rle", "not allowed with argument"),
        ("--minus face", "no prompt: give --prompt TEXT"),
        ("--prompt sky --grow wide", "--grow: invalid float value: 'wide'"),
        ("--prompt sky --grow nan", "grow must be a finite number of pixels, not nan"),
        ("--prompt sky --feather -2", "feather must be at least 0 pixels, not -2"),
        ("--prompt sky --cutout --argmax", "not allowed with argument"),
        ("--prompt sky --cutout --format soft", "not allowed with argument"),
        ("--prompt sky --cutout --format rle", "not allowed with argument"),
        ("--prompt sky --cutout --format npy", "not allowed with argument"),
        (
            "--prompt sky --argmax --minus face",
            "minus cannot be combined with label maps (argmax): they",
        ),
        (
            "--prompt sky --argmax --minus-image a.jpg",
            "minus cannot be combined with label maps (arg",
        ),
        ("--prompt sky --argmax --union", "union cannot be combined with label maps (arg"),
        ("--prompt sky --argmax --grow 3", "grow cannot be combined with label maps (arg"),
        ("--prompt sky --argmax --invert", "invert cannot be combined with label maps (arg"),
        ("--prompt sky --argmax --feather 3", "feather cannot be combined with label maps (arg"),
        ("--prompt sky --format npy --minus face", "minus cannot be combined with the format npy"),
        ("--prompt sky --format npy --union", "union cannot be combined with the format npy"),
        ("--prompt sky --format npy --grow 3", "grow cannot be combined with the format npy"),
        ("--prompt sky --format npy --invert", "invert cannot be combined with the format npy"),
        ("--prompt sky --format npy --feather 3", "feather cannot be combined with the format npy"),
        ("--prompt sky --format rle --feather 3", "feather cannot be combined with the format rle"),
        ("--prompt sky --format soft --grow -3", "grow cannot be combined with the format soft"),
        (
            "--prompt sky --format soft --feather 3",
            "feather cannot be combined with the format sof",
        ),
        (
            "--prompt -dog",
            "expected one argument; write a value that starts with - as --prompt=-...",
        ),
        ("--image-prompt cat.jpg --box -5,-5,30,30", "starts with - as --box=-..."),
        ("--prompt sky --prefix fixed", "unrecognized arguments: --prefix fixed"),
        ("--prompt sky --name-pattern {phrase}", "name pattern '{phrase}' may contain {photo}"),
        ("--prompt a --prompt b --name-pattern {photo}", "must contain {prompt} if there are sev"),
        ("--prompt sky --format coco --name-pattern m{photo}", "needs a format with one file per"),
    ],
)
def test_invalid_options_are_one_line_and_status_2(photo, capsys, options, message):
    with pytest.raises(SystemExit) as exited:
        segment.main([str(photo), *options.split()])
    error = capsys.readouterr().err
    assert exited.value.code == 2 and message in error and error.count("\n") == 1
