"""Models by name, from an imitation of Hugging Face's hub."""

import re

import numpy as np
import pytest
import torch
from huggingface_hub import constants, hf_hub_download
from PIL import Image

from clipseg_pl.cli.commands import segment
from clipseg_pl.convert.loading import load_model, read_model, start_from
from clipseg_pl.doctor.checkpoints import check_checkpoint
from clipseg_pl.inference.segmenter import Segmenter
from clipseg_pl.models.clip_backbone import CLIPBackbone
from clipseg_pl.models.clipseg import CLIPSeg
from clipseg_pl.models.decoder import FiLMDecoder
from clipseg_pl.weights.hub import find_model, is_hub_name
from clipseg_pl.weights.places import PUBLISHED, find_checkpoint
from tests.hub import CONFIG, READ, read_files

FILES = ["config.json", "model.safetensors", "preprocessor_config.json"]


@pytest.fixture
def published(hub, hub_clipseg):
    """Hub with the model that is the default of `segment`."""
    hub.add(PUBLISHED, hub_clipseg)
    return hub


@pytest.fixture
def photo(tmp_path):
    file = tmp_path / "photo.png"
    Image.effect_noise((90, 60), 80).convert("RGB").save(file)
    return file


@pytest.mark.parametrize(
    ("name", "is_hub"),
    [
        ("CIDAS/clipseg-rd64-refined", True),
        ("owner/name.v2@v1.0", True),
        ("owner/name@refs/pr/1", True),
        ("name", False),
        ("a/b/c", False),
        ("./name", False),
        ("../name", False),
        ("/tmp/name", False),
        ("~/name", False),
        ("owner/", False),
        ("owner/name@", False),
        ("owner/a--b", False),
        ("öwner/name", False),
    ],
)
def test_hub_names_are_owner_and_name(name, is_hub):
    assert is_hub_name(name) == is_hub


def test_first_use_downloads_only_the_needed_files(published, capsys):
    folder = find_checkpoint(PUBLISHED)
    assert sorted(published.downloads()) == FILES
    assert sorted(file.name for file in folder.iterdir()) == FILES
    size = sum((folder / name).stat().st_size for name in FILES) / 1e6
    message = f"downloading {PUBLISHED} ({size:.0f} MB) to {constants.HF_HUB_CACHE}"
    assert message in capsys.readouterr().err


def test_a_cached_model_needs_no_request(published, capsys):
    folder = find_checkpoint(PUBLISHED)
    published.requests.clear()
    capsys.readouterr()
    assert find_checkpoint(PUBLISHED) == folder
    assert not published.requests
    assert not capsys.readouterr().err


def test_a_model_downloaded_by_other_programs_needs_no_request(published, capsys):
    for (
        name
    ) in FILES:  # as `hf download` does: without a record that processor_config.json is absent
        hf_hub_download(PUBLISHED, name)
    published.requests.clear()
    assert find_checkpoint(PUBLISHED).is_dir()
    assert not published.requests and "downloading" not in capsys.readouterr().err


def test_only_missing_files_count_as_download(published, capsys):
    find_checkpoint(PUBLISHED).joinpath("preprocessor_config.json").unlink()
    capsys.readouterr()
    find_checkpoint(PUBLISHED)
    assert "(0 MB)" in capsys.readouterr().err


def test_a_missing_preprocessor_is_remembered(hub, hub_clipseg):
    files = read_files(hub_clipseg)
    del files["preprocessor_config.json"]
    hub.add("owner/copy", files)
    assert load_model("owner/copy").image_size == 352  # the paper's
    hub.requests.clear()
    find_checkpoint("owner/copy")
    assert not hub.requests


def test_old_repositories_have_a_torch_file_only(hub, hub_clipseg):
    files = read_files(hub_clipseg)
    del files["model.safetensors"]
    hub.add("owner/old", files)
    assert find_checkpoint("owner/old").joinpath("pytorch_model.bin").is_file()


def test_a_revision_selects_the_files(hub, hub_clipseg):
    files = read_files(hub_clipseg)
    hub.add("owner/name", files, tag="v1")
    sha = hub.add("owner/name", {**files, "config.json": files["config.json"] + b" "})
    assert find_model("owner/name@v1") != find_model("owner/name")
    assert find_model("owner/name").name == sha == find_model(f"owner/name@{sha}").name


def test_settings_are_those_of_the_config(published):
    loaded = load_model(PUBLISHED)
    decoder = loaded.model.decoder
    assert decoder.settings | {"dropout": 0} == {
        "layers": CONFIG["extract_layers"],
        "dim": CONFIG["reduce_dim"],
        "heads": CONFIG["decoder_num_attention_heads"],
        "feedforward": CONFIG["decoder_intermediate_size"],
        "head": "refined",
        "dropout": 0,
    }
    assert loaded.image_size == 64


def test_local_paths_take_precedence(published, hub_clipseg, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "CIDAS").mkdir()
    (tmp_path / PUBLISHED).symlink_to(hub_clipseg)
    assert load_model(PUBLISHED).image_size == 64
    assert not published.requests


# ---- without a connection


def test_a_cached_model_works_offline(published, monkeypatch):
    folder = find_checkpoint(PUBLISHED)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert find_checkpoint(PUBLISHED) == folder


@pytest.mark.parametrize("switch", ["offline mode", "no server"])
def test_segment_without_network_writes_nothing(hub, photo, tmp_path, monkeypatch, capsys, switch):
    monkeypatch.delenv("CLIPSEG_CHECKPOINT", raising=False)
    if switch == "offline mode":
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    else:
        hub.down = True
    with pytest.raises(SystemExit) as exited:
        segment.main([str(photo), "--prompt", "a dog", "--out", str(tmp_path / "masks")])
    message = str(exited.value.code)
    assert message.startswith(f"clipseg_pl: no checkpoint {PUBLISHED}: no such file or folder, not")
    assert f"in the cache ({constants.HF_HUB_CACHE})" in message
    assert "--checkpoint toy" in message and "local file" in message and "\n" not in message
    assert not (tmp_path / "masks").exists()


def test_a_model_without_its_preprocessor_works_offline(published, monkeypatch):
    find_checkpoint(PUBLISHED).joinpath("preprocessor_config.json").unlink()
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert load_model(PUBLISHED).image_size == 352


def test_a_broken_transfer_is_resumed(published, hub_clipseg):
    find_checkpoint(PUBLISHED)  # the small files
    weights = find_checkpoint(PUBLISHED) / "model.safetensors"
    weights.resolve().unlink()
    weights.unlink()
    published.break_after = 1000
    find_checkpoint(PUBLISHED)
    assert weights.read_bytes() == (hub_clipseg / "model.safetensors").read_bytes()
    assert [r.range for r in published.requests if r.range] == ["bytes=1000-"]


# ---- errors


def test_unknown_models_are_reported(hub):
    with pytest.raises(FileNotFoundError, match=r"no public model of this name .* `hf auth login`"):
        find_checkpoint("owner/nothing")


def test_private_models_need_a_token(hub, hub_clipseg, monkeypatch):
    hub.add("me/private", hub_clipseg, private=True)
    with pytest.raises(FileNotFoundError, match="For a private model, log in with `hf auth login`"):
        find_checkpoint("me/private")
    monkeypatch.setenv("HF_TOKEN", READ)
    assert find_checkpoint("me/private").is_dir()


def test_error_for_gated_models_suggests_to_log_in(hub, hub_clipseg):
    hub.add("owner/gated", hub_clipseg, gated=True)
    with pytest.raises(FileNotFoundError, match="request access on its page"):
        find_checkpoint("owner/gated")


def test_unknown_revisions_are_reported(published):
    with pytest.raises(FileNotFoundError, match=f"{PUBLISHED} has no revision v9"):
        find_checkpoint(f"{PUBLISHED}@v9")


def test_other_models_are_rejected_before_their_download(hub):
    config = b'{"model_type": "clip"}'
    hub.add("owner/clip", {"config.json": config, "model.safetensors": b"weights"})
    hub.add("owner/bert", {"config.json": config, "tf_model.h5": b"weights"})
    for name in ("owner/clip", "owner/bert"):
        with pytest.raises(ValueError, match=rf"{name} is not a CLIPSeg: it needs"):
            find_checkpoint(name)
    assert hub.downloads() == ["config.json"]


@pytest.mark.parametrize("name", ["a/b/c", "nothing", "runs/best.ckpt", "models/rd64.pth"])
def test_other_names_are_local_only(hub, name):
    with pytest.raises(FileNotFoundError, match=f"^no checkpoint {re.escape(name)}$"):
        find_checkpoint(name)
    assert not hub.requests


# ---- where a model is named


def test_segment_uses_the_published_model_by_default(published, photo, tmp_path, monkeypatch):
    monkeypatch.delenv("CLIPSEG_CHECKPOINT", raising=False)
    out = tmp_path / "masks"
    segment.main([str(photo), "--prompt", "a dog", "--out", str(out), "--precision", "float32"])
    expected = Segmenter.from_pretrained(PUBLISHED, precision="float32")(photo, ["a dog"])
    assert (np.asarray(Image.open(out / "photo_a_dog.png")) == expected.masks[0] * 255).all()


def test_environment_sets_another_default(hub, photo, monkeypatch):
    monkeypatch.setenv("CLIPSEG_CHECKPOINT", "toy")
    assert Segmenter.from_pretrained().image_size == Segmenter.from_pretrained("toy").image_size
    monkeypatch.setenv("CLIPSEG_CHECKPOINT", "")
    with pytest.raises(FileNotFoundError, match=f"no checkpoint {PUBLISHED}"):
        Segmenter.from_pretrained()


def test_doctor_reports_missing_files_as_files(hub):
    (finding,) = check_checkpoint("runs/best.ckpt")
    assert (finding.state, finding.message) == ("missing", "no checkpoint runs/best.ckpt")


def test_doctor_reports_without_downloading(published):
    (finding,) = check_checkpoint(PUBLISHED)
    assert finding.state == "missing" and "first use" in finding.message
    assert not published.requests
    find_checkpoint(PUBLISHED).joinpath("preprocessor_config.json").unlink()
    published.requests.clear()
    assert {finding.state for finding in check_checkpoint(PUBLISHED)} == {"ok"}
    assert not published.requests


def model_like_published(**changes):
    backbone = load_model(PUBLISHED).model.backbone
    sizes = {"layers": [0, 1, 3], "dim": 8, "feedforward": 12, "head": "refined"} | changes
    return CLIPSeg(backbone, lambda shape: FiLMDecoder(shape, **sizes))


def test_a_decoder_starts_from_a_hub_model(published):
    model = model_like_published()
    start_from(model, PUBLISHED)
    expected = load_model(PUBLISHED).model.decoder.state_dict()
    assert all(map(torch.equal, model.decoder.state_dict().values(), expected.values()))


@pytest.mark.parametrize(
    ("changes", "setting"),
    [
        ({"head": "simple"}, "--model.decoder.init_args.head=refined"),
        ({"layers": [0, 2, 3]}, "'--model.decoder.init_args.layers=[0,1,3]'"),
        ({"dim": 16, "heads": 8}, "init_args.dim=8 --model.decoder.init_args.heads=4"),
        ({"heads": 2}, "--model.decoder.init_args.heads=4"),
        ({"feedforward": 20}, "--model.decoder.init_args.feedforward=12"),
    ],
)
def test_a_mismatch_lists_the_settings_to_change(published, changes, setting):
    with pytest.raises(ValueError) as raised:
        start_from(model_like_published(**changes), PUBLISHED)
    assert setting in str(raised.value)
    assert "--config experiments/models/rd64_refined.yaml" in str(raised.value)


def test_another_normalisation_is_a_warning(published):
    model = model_like_published()
    model.backbone.mean.fill_(0.5)
    with pytest.warns(UserWarning, match="trained on images normalised with mean"):
        start_from(model, PUBLISHED)


def test_hub_model_is_read_from_the_cache(published):
    assert str(read_model(PUBLISHED).path).startswith(constants.HF_HUB_CACHE)
    assert isinstance(load_model(PUBLISHED).model.backbone, CLIPBackbone)
