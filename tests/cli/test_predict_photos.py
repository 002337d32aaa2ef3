"""`predict` on your own photos writes the same files as `segment`."""

import json

import numpy as np
import pytest
import torch
from PIL import Image

from clipseg_pl.cli.commands import segment
from datamodules.photos import PhotosDataModule
from tests.command import EXPERIMENTS, arguments, launch, results, run

PHOTOS = EXPERIMENTS / "predict" / "photos.yaml"
SIZES = ((60, 80), (60, 80), (80, 60), (33, 120), (60, 80))


@pytest.fixture
def album(tmp_path):
    folder = tmp_path / "album"
    for number, size in enumerate(SIZES):
        pixels = np.random.default_rng(number).integers(0, 255, (*size, 3), np.uint8)
        file = folder / ("sub" if number % 2 else ".") / f"{number}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        exif = Image.Exif()
        exif[0x0112] = 6 if number == 4 else 1  # the last photo is rotated
        Image.fromarray(pixels).save(file, exif=exif)
    return folder


def predict(trained, miniature, folder, album, *more, start=run):
    weights = f"--ckpt_path={trained / 'checkpoints' / 'best.ckpt'}"
    photos = (f"--data.init_args.photos=[{album}]", "--data.init_args.prompts=[a disc, sky]")
    start(*arguments("predict", miniature, folder, weights, *photos, *more, configs=(PHOTOS,)))
    return folder / "predictions" / "pc_plus+photos-best"


def contents(folder):
    files = (file for file in folder.rglob("*") if file.is_file())
    return {file.relative_to(folder).as_posix(): file.read_bytes() for file in files}


def segmented(trained, album, out, *more):
    weights = f"--checkpoint={trained / 'checkpoints' / 'best.ckpt'}"
    words = ("--prompt", "a disc", "--prompt", "sky")
    segment.main([str(album), weights, f"--out={out}", "--precision=float32", *words, *more])
    return contents(out)


@pytest.mark.parametrize("form", ["png", "soft", "cutout", "npy", "rle", "labels", "coco", "yolo"])
def test_predict_masks_equal_those_of_segment(trained, miniature, album, tmp_path, form):
    # batches of one, like `segment` on a CPU: the last digits depend on the batch size
    more = (f"--data.init_args.form={form}", "--data.init_args.batch_size=1")
    more += ("--data.init_args.overlay=false",) * (form == "cutout")
    written = predict(trained, miniature, tmp_path, album, *more)
    options = {"labels": ["--argmax"], "cutout": ["--cutout", "--no-overlay"]}
    chosen = options.get(form, [f"--format={form}"])
    expected = segmented(trained, album, tmp_path / "out", *chosen)
    assert contents(written) == expected and len(expected) > len(SIZES)
    assert results(tmp_path)["metrics"] == {"predict/blend/masks": 10}
    assert results(tmp_path)["dataset_sizes"] == {"photos": 5}


@pytest.mark.slow
def test_predict_thresholds_equal_those_of_segment(trained, miniature, album, tmp_path):
    cuts = {"threshold": 0.4, "absent_cut": 0.45}
    more = [f"--data.init_args.{name}={value}" for name, value in cuts.items()]
    written = predict(trained, miniature, tmp_path, album, *more, "--data.init_args.batch_size=1")
    options = [f"--{name.replace('_', '-')}={value}" for name, value in cuts.items()]
    expected = segmented(trained, album, tmp_path / "out", *options)
    assert contents(written) == expected
    assert expected != segmented(trained, album, tmp_path / "stored")


@pytest.mark.slow
def test_predict_uses_the_thresholds_of_classes_as_segment_does(
    miniature, album, trained, tmp_path
):
    run_folder = tmp_path / "own"
    (run_folder / "checkpoints").mkdir(parents=True)
    content = torch.load(trained / "checkpoints" / "best.ckpt", weights_only=True)
    content["class_thresholds"] = {"sky": content["threshold"] + 0.02}
    torch.save(content, run_folder / "checkpoints" / "best.ckpt")
    more = ["--data.init_args.batch_size=1"]
    written = predict(run_folder, miniature, tmp_path / "one", album, *more)
    expected = segmented(run_folder, album, tmp_path / "out")
    assert contents(written) == expected
    assert expected != segmented(trained, album, tmp_path / "overall")
    more += [f"--data.init_args.threshold={content['threshold']}"]
    written = predict(run_folder, miniature, tmp_path / "two", album, *more)
    assert contents(written) == segmented(trained, album, tmp_path / "again")


@pytest.mark.slow
def test_predict_uses_the_image_size_of_the_checkpoint(trained, miniature, album, tmp_path):
    written = {}
    for side in (64, 96):
        content = torch.load(trained / "checkpoints" / "best.ckpt", weights_only=True)
        folder = tmp_path / str(side)
        (folder / "checkpoints").mkdir(parents=True)
        torch.save({**content, "image_size": side}, folder / "checkpoints" / "best.ckpt")
        more = ("--data.init_args.image_size=null", "--data.init_args.form=npy")
        more += ("--data.init_args.batch_size=1", "--data.init_args.overlay=false")
        written[side] = contents(predict(folder, miniature, folder, album, *more))
        options = ("--format=npy", "--no-overlay")
        assert written[side] == segmented(folder, album, folder / "out", *options)
    assert written[64]["0.npy"] != written[96]["0.npy"]


def test_predict_rejects_urls():
    with pytest.raises(ValueError, match=r"^https://a.org/b.jpg: `predict` does not download"):
        PhotosDataModule(["album", "https://a.org/b.jpg"], ["sky"])


def test_predict_with_visual_prompts_equals_segment(trained, miniature, album, tmp_path):
    image, other = album / "0.png", album / "2.png"
    specs = [
        "sky",
        [{"image": str(image), "box": [5, 5, 40, 50]}, {"image": str(other)}],
        {"image": {"image": str(image)}, "text": "a disc", "weight": 0.3},
    ]
    prompts = f"--data.init_args.prompts={json.dumps(specs)}"
    more = (prompts, "--data.init_args.form=npy", "--data.init_args.overlay=false")
    written = predict(trained, miniature, tmp_path, album, *more)
    segment.main(
        [
            *(str(album), f"--checkpoint={trained / 'checkpoints' / 'best.ckpt'}"),
            *(f"--out={tmp_path / 'out'}", "--format=npy", "--no-overlay", "--precision=float32"),
            *("--prompt", "sky", "--image-prompt", str(image), "--box", "5,5,40,50"),
            *("--with", str(other), "--prompt", "a disc", "--with", str(image), "--weight", "0.3"),
        ]
    )
    for number in range(len(SIZES)):
        name = f"{'sub/' if number % 2 else ''}{number}.npy"
        predicted, expected = np.load(written / name), np.load(tmp_path / "out" / name)
        assert np.abs(predicted - expected).max() <= 1e-3  # resolution of float16
        assert np.abs(predicted[0] - predicted[1]).max() > 1e-2
    legends = [json.loads((f / "prompts.json").read_text()) for f in (written, tmp_path / "out")]
    assert legends[0] == legends[1]
    with pytest.raises(SystemExit):
        prompt_types = "--model.protocol.init_args.prompt_types=[text]"
        predict(trained, miniature, tmp_path / "text", album, prompts, prompt_types)


@pytest.mark.slow
def test_predict_on_two_processes_equals_one(trained, miniature, album, tmp_path):
    # five photos of three sizes make four batches of at most 2
    more = ("--data.init_args.batch_size=2", "--data.init_args.form=rle")
    two = ("--trainer.devices=2", "--trainer.strategy=ddp")
    (album / "broken.png").write_text("no photo")
    with pytest.raises(SystemExit):
        predict(trained, miniature, tmp_path / "one", album, *more)
    with pytest.raises(AssertionError, match=r"skipped .*broken.png: cannot be read"):
        predict(trained, miniature, tmp_path / "two", album, *more, *two, start=launch)
    folder = "predictions/pc_plus+photos-best"
    one, two = contents(tmp_path / "one" / folder), contents(tmp_path / "two" / folder)
    assert one.keys() == two.keys() and len(one) == 6
    assert results(tmp_path / "two")["processes"] == 2
    assert results(tmp_path / "two")["metrics"] == {"predict/blend/masks": 10}
    entries = json.loads(one["masks.json"])
    assert [entry["file_name"] for entry in entries[::2]] == [
        *("0.png", "2.png", "4.png", "sub/1.png", "sub/3.png")
    ]
    assert json.loads(two["masks.json"]) == entries


def test_unreadable_photos_are_skipped_and_reported(trained, miniature, album, tmp_path, capsys):
    whole = (album / "2.png").read_bytes()
    (album / "2.png").write_bytes(whole[: len(whole) // 2])  # the header is intact
    (album / "notes.jpg").write_text("no photo")
    with pytest.raises(SystemExit) as stopped:
        predict(trained, miniature, tmp_path, album)
    lines = [line for line in capsys.readouterr().err.splitlines() if "skipped" in line]
    assert stopped.value.code == 1
    assert [line.split(": cannot")[0] for line in lines] == [
        f"clipseg_pl: skipped {album / name}" for name in ("2.png", "notes.jpg")
    ]
    written = contents(tmp_path / "predictions" / "pc_plus+photos-best")
    assert len(written) == 3 * (len(SIZES) - 1)


@pytest.mark.parametrize(
    ("option", "answer"),
    [
        ("--data.init_args.prompts=[]", "at least one prompt"),
        ("--data.init_args.prompts=[sky,'']", "at least one prompt"),
        ("--data.init_args.photos=[nowhere]", "nowhere: no such photo"),
        ("--data.init_args.photos=[]", "files, folders or globs"),
        ("--data.init_args.threshold=2", "threshold must be in [0, 1]"),
        ("--data.init_args.form=jpg", "form"),
        ('--data.init_args.prompts=[{"image": "nowhere.jpg"}]', "nowhere.jpg"),
    ],
)
def test_invalid_option_prints_one_line(
    trained, miniature, album, tmp_path, capsys, option, answer
):
    with pytest.raises(SystemExit):
        predict(trained, miniature, tmp_path / "run", album, option)
    lines = [line for line in capsys.readouterr().err.splitlines() if "clipseg_pl:" in line]
    assert len(lines) == 1 and answer in lines[0]
    assert not (tmp_path / "run").exists()


def test_predict_rejects_a_folder_with_masks(trained, miniature, album, tmp_path, capsys):
    predict(trained, miniature, tmp_path, album)
    with pytest.raises(SystemExit):
        predict(trained, miniature, tmp_path, album)
    assert "already contains masks" in capsys.readouterr().err


def test_fit_on_photos_without_targets_is_an_error(miniature, album, tmp_path, capsys):
    photos = f"--data.init_args.photos=[{album}]"
    with pytest.raises(SystemExit):
        run(*arguments("fit", miniature, tmp_path / "run", photos, configs=(PHOTOS,)))
    assert "only be used with the `predict` command" in capsys.readouterr().err
