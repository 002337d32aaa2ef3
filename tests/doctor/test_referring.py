"""Findings of `doctor` for intact and damaged copies of the RefCOCO family."""

import json
import shutil
from pkgutil import resolve_name

import pytest
from PIL import Image

from clipseg_pl.cli.commands.doctor import _CHECKS
from clipseg_pl.doctor import referring
from datamodules.datasets.refcoco_files import PARTITIONS


@pytest.fixture
def root(miniature, tmp_path):
    """Copies of the toy datasets that tests may damage."""
    for part in ("refcoco", "grefcoco", "COCO2014"):
        shutil.copytree(miniature / part, tmp_path / part)
    return tmp_path


def findings_of(name, root, every=False):
    check = resolve_name(f"clipseg_pl.doctor.{_CHECKS[name].function}")
    return {finding.subject: finding for finding in check(root, every)}


@pytest.mark.parametrize("name", PARTITIONS)
def test_toy_datasets_are_ok(miniature, name):
    found = findings_of(name, miniature)
    assert found and {finding.state for finding in found.values()} == {"ok"}
    assert all(" photos checked" in finding.message for finding in found.values())


@pytest.mark.parametrize("name", PARTITIONS)
def test_missing_datasets_have_a_source(tmp_path, name):
    (finding,) = findings_of(name, tmp_path).values()
    assert finding.state == "missing" and "http" in finding.message


def test_counts_are_compared_with_the_published_ones(root, monkeypatch):
    (root / "refcoco/toy_world.json").unlink()
    finding = findings_of("refcoco", root)["unc"]
    assert finding.state == "note" and "(published: 142,210 sentences, 50,0" in finding.message
    sentences, objects = (int(finding.message.split()[place]) for place in (0, 2))
    published = {("refcoco", "unc"): (sentences, objects, 40)}
    monkeypatch.setattr(referring, "_PUBLISHED", published)
    finding = findings_of("refcoco", root)["unc"]
    assert finding.state == "ok" and "as published" in finding.message


def test_missing_parts(root):
    (root / "refcoco/refs(google).p").unlink()
    assert set(findings_of("refcoco", root)) == {"unc"}  # the other partition is optional
    (root / "refcoco/refs(unc).p").unlink()
    (root / "refcoco/instances.json").unlink()
    found = findings_of("refcoco", root)
    assert found.keys() == {"refs(unc).p", "instances.json"}
    assert {finding.state for finding in found.values()} == {"missing"}


def test_damaged_files(root):
    photos = sorted((root / "COCO2014/train2014").iterdir())
    photos[0].write_bytes(b"no photo")
    Image.new("RGB", (20, 20)).save(photos[1])
    finding = findings_of("grefcoco", root)["unc"]
    assert finding.state == "wrong" and "2 of them are not usable" in finding.message
    photos[0].unlink()
    finding = findings_of("grefcoco", root)["unc"]
    assert finding.state == "wrong" and "1 of its 40 photos" in finding.message
    (root / "refcoco/refs(unc).p").write_bytes(b"no pickle")
    assert "not a list of refs" in findings_of("refcoco", root)["unc"].message


def test_skipped_sentences_are_noted(root):
    file = root / "grefcoco/instances.json"
    content = json.loads(file.read_text())
    del content["annotations"][0]
    file.write_text(json.dumps(content))
    finding = findings_of("grefcoco", root)["unc"]
    assert finding.state == "note" and "whose annotation is missing" in finding.message
