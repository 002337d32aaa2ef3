"""Which photos are meant, and what their results are called."""

import pytest

from clipseg_pl import photo_files
from clipseg_pl.photo_files import find_photos


@pytest.fixture
def tree(tmp_path, monkeypatch):
    files = (
        "a.jpg",
        "notes.txt",
        "sub/a.PNG",
        "sub/deep/b.webp",
        "sub/.hidden.jpg",
        ".cache/c.jpg",
    )
    for name in ("photo [1].jpg", *(f"album/{file}" for file in files)):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    monkeypatch.chdir(tmp_path)
    return tmp_path


def names(*given, **options):
    return [photo.name for photo in find_photos(given, **options)]


@pytest.mark.parametrize(
    ("given", "found"),
    [
        (["album"], ["a.jpg", "sub/a.PNG", "sub/deep/b.webp"]),
        (["album/**/*.webp"], ["sub/deep/b.webp"]),
        (["album/**"], ["a.jpg", "sub/a.PNG", "sub/deep/b.webp"]),
        (["album/*/*"], ["sub/a.PNG"]),
        (["album/a.jpg"], ["a.jpg"]),
        (["photo [1].jpg"], ["photo [1].jpg"]),  # a file that looks like a glob
        (["album/notes.txt"], ["notes.txt"]),  # what is named is tried
        (["album/sub/a.PNG", "album/a.jpg"], ["sub/a.PNG", "a.jpg"]),
        (
            ["album/sub", "album/sub/deep", "photo [1].jpg"],
            ["album/sub/a.PNG", "album/sub/deep/b.webp", "photo [1].jpg"],
        ),
    ],
)
def test_files_folders_and_globs_are_found_once(tree, given, found):
    assert names(*given) == found


def test_a_photo_is_named_once_whichever_way_it_is_written(tree):
    assert names("album/a.jpg", str(tree / "album" / "a.jpg"), "album/../album/a.jpg") == ["a.jpg"]


def test_results_of_photos_that_differ_by_their_ending_do_not_collide(tree):
    (tree / "album" / "a.png").touch()
    stems = [photo.stem for photo in find_photos(["album"])]
    assert stems == ["a.jpg", "a.png", "sub/a", "sub/deep/b"]


def test_earlier_results_are_no_photos(tree):
    (tree / "album" / "masks").mkdir()
    (tree / "album" / "masks" / "a_dog.png").touch()
    out = tree / "album" / "masks"
    assert names("album", leave_out=out) == names("album/**", leave_out=out)
    assert "masks/a_dog.png" not in names("album", leave_out=out)
    assert names("album/masks/*.png", leave_out=out) == ["a_dog.png"]
    with pytest.raises(ValueError, match="album: photos and results would be mixed"):
        find_photos(["album"], leave_out=tree / "album")


def test_results_in_the_folder_that_segment_writes_to_by_default_are_no_photos(tree):
    for folder in ("album/masks", "album/sub/masks/deep"):
        (tree / folder).mkdir(parents=True)
        (tree / folder / "a_dog.png").touch()
    photos = ["a.jpg", "sub/a.PNG", "sub/deep/b.webp"]
    elsewhere = tree / "elsewhere"
    assert names("album", leave_out=elsewhere) == names("album/**", leave_out=elsewhere) == photos
    assert names("album/masks") == names("album/masks/*") == ["a_dog.png"]  # what is named is meant


@pytest.mark.parametrize(
    ("given", "problem"),
    [
        ("none.jpg", "none.jpg: no such photo"),
        ("album/*.gif", "album/[*].gif: matches no photos"),
        ("empty", "empty: holds no photos"),
    ],
)
def test_what_holds_no_photo_is_named(tree, given, problem):
    (tree / "empty").mkdir()
    with pytest.raises(FileNotFoundError, match=problem):
        find_photos(["album", given])


@pytest.fixture
def phone(tmp_path, monkeypatch):
    """A folder of photos as they come from a phone and a camera; no pillow-heif."""
    for name in ("a.jpg", "b.HEIC", "c.heif", "d.NEF", "e.dng", "f.txt", "g.heic"):
        (tmp_path / name).touch()
    monkeypatch.setattr(photo_files, "find_spec", lambda name: None)
    return tmp_path


@pytest.mark.parametrize("given", ["", "*"])
def test_what_looks_like_photos_and_is_not_read_is_named(phone, caplog, given):
    assert names(str(phone / given)) == ["a.jpg"]
    (line,) = caplog.messages
    assert line.startswith(f"{phone / given}: 5 files look like photos and are not read: b.HEIC, c")
    assert "d.NEF, ...; HEIC needs pillow-heif: pip install pillow-heif; raw data" in line
    assert "must be converted" in line and "\n" not in line


@pytest.mark.parametrize(("kind", "what"), [("*.NEF", "raw data of a"), ("?.heic", "pip install")])
def test_a_glob_of_nothing_but_unread_photos_says_what_they_need(phone, kind, what):
    with pytest.raises(
        FileNotFoundError,
        match=f"matches no photos; 1 file looks like a photo and is not read: .*{what}",
    ):
        find_photos([str(phone / kind)])


def test_heic_is_taken_where_it_can_be_read(phone, monkeypatch):
    monkeypatch.setattr(photo_files, "find_spec", lambda name: name == "pillow_heif")
    assert names(str(phone)) == ["a.jpg", "b.HEIC", "c.heif", "g.heic"]


def test_pillow_heif_is_looked_for_once(phone, monkeypatch):
    asked = []
    monkeypatch.setattr(photo_files, "find_spec", asked.append)
    assert names(str(phone), str(phone / "*")) == ["a.jpg"]
    assert asked == ["pillow_heif"]
