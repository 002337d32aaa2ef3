"""The command `figure`."""

import numpy as np
import pytest
from PIL import Image

from clipseg_pl.cli.commands import figure


@pytest.fixture
def photos(tmp_path):
    rng, files = np.random.default_rng(0), []
    for number, size in enumerate([(40, 60), (60, 40)]):
        files.append(tmp_path / f"{number}.png")
        Image.fromarray(rng.integers(0, 256, (*size, 3), np.uint8)).save(files[-1])
    return files


def test_figure_has_a_cell_per_photo_and_prompt(photos, tmp_path, capsys):
    out = tmp_path / "figure.png"
    figure.main([*map(str, photos), "--out", str(out)])
    drawn = Image.open(out)
    # 17 cells in three rows, 200 pixels wide; the photo's aspect ratio gives the height
    assert drawn.size == (6 * 204, 3 * (133 + 22) + 3 * (300 + 22))
    assert f"{out}: 2 photos" in capsys.readouterr().out


def test_custom_prompts(photos, tmp_path):
    one, two = tmp_path / "one.png", tmp_path / "two.png"
    figure.main([str(photos[0]), "--prompt", "dog", "--out", str(one)])
    figure.main([str(photos[0]), "--prompt", "sky", "--out", str(two)])
    assert Image.open(one).size == (6 * 204, 133 + 22)
    first, second = (np.asarray(Image.open(file)) for file in (one, two))
    assert (first[:133, :200] == second[:133, :200]).all()  # the photo
    assert (first[:133, 204:404] != second[:133, 204:404]).any()


def test_user_errors_are_one_line(photos, tmp_path):
    out = tmp_path / "figure.png"
    with pytest.raises(SystemExit, match=r"nowhere.jpg"):
        figure.main(["nowhere.jpg", "--out", str(out)])
    assert not out.exists()
    out.write_text("mine")
    with pytest.raises(SystemExit, match="--overwrite replaces it"):
        figure.main([str(photos[0]), "--out", str(out)])
    assert out.read_text() == "mine"


@pytest.fixture
def no_model(monkeypatch):
    """Fail the test if a model is loaded."""
    monkeypatch.setattr(
        "clipseg_pl.inference.segmenter.Segmenter.from_pretrained", lambda *_: pytest.fail()
    )


@pytest.mark.usefixtures("no_model")
@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--out", "FOLDER"], "is a folder; give the path of a file"),
        (["--out", "FOLDER/0.png/figure.png"], "0.png is a file; a folder is needed"),
        (["--out", "FOLDER/figure.words"], "figure.words: unknown image format"),
        (["--checkpoint", "owner/name", "--out", "FOLDER"], "is a folder; give the path of a file"),
        (["--checkpoint", "nowhere.ckpt"], "no checkpoint nowhere.ckpt"),
        (["nowhere.jpg"], "nowhere.jpg: no such photo"),
    ],
)
def test_user_errors_are_reported_before_loading_a_model(photos, tmp_path, options, message):
    options = [option.replace("FOLDER", str(tmp_path)) for option in options]
    with pytest.raises(SystemExit, match=message):
        figure.main([str(photos[0]), *options])


def test_missing_folder_is_created(photos, tmp_path):
    out = tmp_path / "new" / "figure.png"
    figure.main([str(photos[0]), "--prompt", "dog", "--out", str(out)])
    assert Image.open(out).format == "PNG"
