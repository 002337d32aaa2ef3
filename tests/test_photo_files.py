"""Photos found in files, folders and globs, and the names of their results."""

from pathlib import Path

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
        (["photo [1].jpg"], ["photo [1].jpg"]),  # looks like a glob
        (["album/notes.txt"], ["notes.txt"]),  # any file can be given by path
        (["album/sub/a.PNG", "album/a.jpg"], ["sub/a.PNG", "a.jpg"]),
        (
            ["album/sub", "album/sub/deep", "photo [1].jpg"],
            ["album/sub/a.PNG", "album/sub/deep/b.webp", "photo [1].jpg"],
        ),
    ],
)
def test_photos_in_files_folders_and_globs_are_listed_once(tree, given, found):
    assert names(*given) == found


def test_different_paths_of_one_photo_are_listed_once(tree):
    assert names("album/a.jpg", str(tree / "album" / "a.jpg"), "album/../album/a.jpg") == ["a.jpg"]


def test_photos_that_differ_only_in_the_extension_have_different_stems(tree):
    (tree / "album" / "a.png").touch()
    stems = [photo.stem for photo in find_photos(["album"])]
    assert stems == ["a.jpg", "a.png", "sub/a", "sub/deep/b"]


def test_results_folder_is_not_searched(tree):
    (tree / "album" / "masks").mkdir()
    (tree / "album" / "masks" / "a_dog.png").touch()
    out = tree / "album" / "masks"
    assert names("album", leave_out=out) == names("album/**", leave_out=out)
    assert "masks/a_dog.png" not in names("album", leave_out=out)
    assert names("album/masks/*.png", leave_out=out) == ["a_dog.png"]
    with pytest.raises(
        ValueError, match="album contains the photos; write results to another folder"
    ):
        find_photos(["album"], leave_out=tree / "album")


def test_subfolders_named_masks_are_not_searched(tree):
    for folder in ("album/masks", "album/sub/masks/deep"):
        (tree / folder).mkdir(parents=True)
        (tree / folder / "a_dog.png").touch()
    photos = ["a.jpg", "sub/a.PNG", "sub/deep/b.webp"]
    elsewhere = tree / "elsewhere"
    assert names("album", leave_out=elsewhere) == names("album/**", leave_out=elsewhere) == photos
    assert names("album/masks") == names("album/masks/*") == ["a_dog.png"]  # given explicitly


@pytest.mark.parametrize(
    ("given", "problem"),
    [
        ("none.jpg", "none.jpg: no such photo"),
        ("album/*.gif", "album/[*].gif: matches no photos"),
        ("empty", "empty: contains no photos"),
    ],
)
def test_path_without_photos_raises(tree, given, problem):
    (tree / "empty").mkdir()
    with pytest.raises(FileNotFoundError, match=problem):
        find_photos(["album", given])


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("/album/beach.jpg", "beach.jpg"),
        ("/album/beach.jpg?size=1/2#top", "beach.jpg"),
        ("/my%20caf%C3%A9%2Fb.jpg", "my café_b.jpg"),
        ("/..%2F..%2Fetc%2Fpasswd%00", "_.._etc_passwd_"),
        ("/.hidden.jpg", "hidden.jpg"),
        ("/album/", "photo"),
        ("?id=3", "photo"),
        ("/..", "photo"),
        ("/%1b[31m\u202ered.jpg", "__31m_red.jpg"),
    ],
)
def test_url_has_the_name_of_its_last_segment(path, name):
    (photo,) = find_photos([f"HTTPS://example.org{path}"])
    assert photo.name == name and photo.source == f"HTTPS://example.org{path}"
    assert photo.stem == str(Path(name).with_suffix(""))


def test_urls_and_files_are_listed_together_with_different_names(tree):
    image = "https://example.org/iiif/{}/full/default.jpg"
    urls = [image.format(number) for number in (1, 2, 1, 3)]
    given = [urls[0], "http://example.org/a.jpg", "album", *urls[1:], "http://example.org/a.png"]
    found = find_photos(given)
    assert [photo.name for photo in found] == [
        *("default.jpg", "a_2.jpg", "a.jpg", "sub/a.PNG", "sub/deep/b.webp"),
        *("default_2.jpg", "default_3.jpg", "a.png"),
    ]
    assert len({photo.stem for photo in found}) == len(found)
    assert found[2].source == Path("album/a.jpg") and found[5].source == urls[1]


@pytest.fixture
def phone(tmp_path, monkeypatch):
    """Return a folder of photos from a phone and a camera, without pillow-heif."""
    for name in ("a.jpg", "b.HEIC", "c.heif", "d.NEF", "e.dng", "f.txt", "g.heic"):
        (tmp_path / name).touch()
    monkeypatch.setattr(photo_files, "find_spec", lambda name: None)
    return tmp_path


@pytest.mark.parametrize("given", ["", "*"])
def test_unreadable_photos_are_logged(phone, caplog, given):
    assert names(str(phone / given)) == ["a.jpg"]
    (line,) = caplog.messages
    count = "5 files look like photos but cannot be read"
    assert line.startswith(f"{phone / given}: {count}: b.HEIC, c")
    assert "d.NEF, ...; HEIC needs pillow-heif: pip install pillow-heif; camera raw" in line
    assert "must be converted" in line and "\n" not in line


@pytest.mark.parametrize(
    ("kind", "remedy"), [("*.NEF", "camera raw files"), ("?.heic", "pip install")]
)
def test_glob_with_only_unreadable_photos_raises_with_the_remedy(phone, kind, remedy):
    with pytest.raises(
        FileNotFoundError,
        match=f"matches no photos; 1 file looks like a photo but cannot be read: .*{remedy}",
    ):
        find_photos([str(phone / kind)])


def test_heic_is_listed_with_pillow_heif(phone, monkeypatch):
    monkeypatch.setattr(photo_files, "find_spec", lambda name: name == "pillow_heif")
    assert names(str(phone)) == ["a.jpg", "b.HEIC", "c.heif", "g.heic"]


def test_pillow_heif_is_searched_once(phone, monkeypatch):
    searched = []
    monkeypatch.setattr(photo_files, "find_spec", searched.append)
    assert names(str(phone), str(phone / "*")) == ["a.jpg"]
    assert searched == ["pillow_heif"]
