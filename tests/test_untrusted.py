"""Untrusted files: no code in them is executed, whichever command reads them."""

import ast
import json
import pickle
import shutil
from pathlib import Path

import pytest
import torch
from PIL import Image

from clipseg_pl.cli.commands import export, segment
from clipseg_pl.cli.commands.doctor import main as doctor
from clipseg_pl.models.vit_backbone import build_vit
from datamodules.datasets.coco_20i import read_fold
from datamodules.datasets.coco_json import read_coco
from datamodules.datasets.refcoco import RefCOCO
from tests.command import arguments, run
from tests.conftest import TINY_CLIP, TINY_VIT
from tests.datasets.test_coco_20i import write_list
from tests.weights.test_clip_weights import Bomb

ROOT = Path(__file__).parents[1]


def write_torch_file(content: object, file: Path) -> None:
    torch.save(content, file)


def write_pickle(content: object, file: Path) -> None:
    file.write_bytes(pickle.dumps(content))


def write_legacy_torch_file(content: object, file: Path) -> None:
    torch.save(content, file, _use_new_zipfile_serialization=False)


def validate(file, miniature, folder):
    run(*arguments("validate", miniature, folder, f"--ckpt_path={file}"))


def predict(file, miniature, folder):
    run(*arguments("predict", miniature, folder, f"--ckpt_path={file}"))


def fit(file, miniature, folder):
    run(*arguments("fit", miniature, folder, f"--ckpt_path={file}"))


def fit_from_decoder(file, miniature, folder):
    run(*arguments("fit", miniature, folder, f"--model.init_decoder={file}"))


def run_segment(file, miniature, folder):
    Image.new("RGB", (32, 24)).save(folder / "photo.png")
    options = ["--prompt", "a dog", "--checkpoint", str(file), "--out", str(folder / "out")]
    segment.main([str(folder / "photo.png"), *options])


def run_export(file, miniature, folder):
    export.main([str(file), "--to", "original", "--out", str(folder / "out.pth")])


def run_doctor(file, miniature, folder):
    doctor(["--checkpoint", str(file)])


def load_clip_weights(file, miniature, folder):
    (folder / "own.json").write_text(json.dumps(TINY_CLIP))
    (folder / "own.pt").write_bytes(file.read_bytes())
    options = ["--model.backbone.init_args.name=own", "--model.backbone.init_args.pretrained=true"]
    run(*arguments("fit", miniature, folder / "run", *options))


def load_vit_weights(file, miniature, folder):
    (folder / "own_vit.json").write_text(json.dumps(TINY_VIT))
    (folder / "own_vit.pt").write_bytes(file.read_bytes())
    build_vit("own", pretrained=True)


def read_coco_20i_list(file, miniature, folder):
    write_list(folder, file.read_bytes())
    read_fold(folder, "val", 0)


def read_refs(file, miniature, folder):
    refcoco = shutil.copytree(miniature / "refcoco", folder / "refcoco")
    (folder / "COCO2014").symlink_to(miniature / "COCO2014")
    (refcoco / "refs(unc).p").write_bytes(file.read_bytes())
    RefCOCO(folder, "refcoco", "val")


READERS = {
    validate: ".ckpt",
    predict: ".ckpt",
    fit: ".ckpt",
    fit_from_decoder: ".pth",
    run_segment: ".ckpt",
    run_export: ".pth",
    run_doctor: ".ckpt",
    load_clip_weights: ".pt",
    load_vit_weights: ".pt",
    read_coco_20i_list: ".pkl",
    read_refs: ".p",
}


@pytest.mark.parametrize(
    "write",
    [
        pytest.param(write_torch_file, id="torch"),
        pytest.param(write_pickle, id="pickle", marks=pytest.mark.slow),
        pytest.param(write_legacy_torch_file, id="legacy torch", marks=pytest.mark.slow),
    ],
)
@pytest.mark.parametrize("reader", READERS, ids=lambda reader: reader.__name__)
def test_no_pickle_is_run(reader, write, miniature, tmp_path, monkeypatch):
    # makes `weights_only=False` the default of torch.load
    monkeypatch.setenv("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", "1")
    monkeypatch.setenv("CLIPSEG_WEIGHTS", str(tmp_path))
    (tmp_path / "tiny.json").write_text(json.dumps(TINY_CLIP))
    file, trace = tmp_path / f"hostile{READERS[reader]}", tmp_path / "trace"
    write({"state_dict": {"weight": Bomb(trace)}, "hyper_parameters": Bomb(trace)}, file)
    with pytest.raises((SystemExit, ValueError)) as raised:
        reader(file, miniature, tmp_path)
    assert raised.value.args != (0,) and not trace.exists()


def test_hostile_pickle_is_run_by_pickle_load(tmp_path):
    write_pickle({"weight": Bomb(tmp_path / "trace")}, tmp_path / "hostile.pkl")
    pickle.loads((tmp_path / "hostile.pkl").read_bytes())
    assert (tmp_path / "trace").exists()


def test_checkpoint_is_read_once_with_weights_only(trained, miniature, tmp_path, monkeypatch):
    calls, load = [], torch.load

    def spy(file, *args, **options):
        calls.append((Path(file).name, options.get("weights_only")))
        return load(file, *args, **options)

    monkeypatch.setattr(torch, "load", spy)
    last = trained / "checkpoints" / "last.ckpt"
    run(*arguments("validate", miniature, tmp_path, f"--ckpt_path={last}"))
    assert calls == [("last.ckpt", True)]
    run_segment(last, miniature, tmp_path)
    run_doctor(last, miniature, tmp_path)
    run_export(last, miniature, tmp_path)
    assert calls == [("last.ckpt", True)] * 4


@pytest.mark.parametrize("class_path", ["subprocess.Popen", "os.system", "pathlib.Path"])
def test_checkpoint_with_another_class_as_backbone_is_an_error(
    trained, miniature, tmp_path, class_path
):
    content = torch.load(trained / "checkpoints" / "last.ckpt", weights_only=True)
    hostile = {"class_path": class_path, "init_args": {"args": ["touch", str(tmp_path / "trace")]}}
    content["hyper_parameters"]["backbone"] = hostile
    torch.save(content, tmp_path / "hostile.ckpt")
    for reader in (validate, run_segment, run_doctor):
        with pytest.raises(SystemExit) as raised:
            reader(tmp_path / "hostile.ckpt", miniature, tmp_path)
        assert raised.value.code != 0
    assert not (tmp_path / "trace").exists()


def test_photo_of_an_unlimited_size_in_a_coco_json_is_an_error(tmp_path):
    """pycocotools ends the process at such sizes."""
    file, side = tmp_path / "coco.json", 10**9
    entry = {"id": 1, "image_id": 1, "category_id": 1, "bbox": [0, 0, side, side]}
    content = {
        "images": [{"id": 1, "file_name": "a.png", "height": side, "width": side}],
        "categories": [{"id": 1, "name": "crack"}],
        "annotations": [entry],
    }
    file.write_text(json.dumps(content))
    with pytest.raises(ValueError, match="height or width is missing or not an integer from 1 to"):
        read_coco(file, tmp_path, rectangles=True)


FORBIDDEN = {"eval", "exec", "compile", "__import__"}


def calls(tree: ast.AST):
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            yield ast.unparse(node.func), {keyword.arg: keyword.value for keyword in node.keywords}


def is_true(node: ast.AST | None) -> bool:
    return isinstance(node, ast.Constant) and node.value is True


def unsafe_code(source: str) -> list[str]:
    """Return calls, imports and classes that would execute code or build objects from input."""
    tree, found = ast.parse(source), []
    for name, keywords in calls(tree):
        last = name.rpartition(".")[2]
        unsafe = (
            name in FORBIDDEN
            or name.startswith(("pickle.load", "pickle.Unpickler", "marshal.", "shelve.", "dill."))
            or (name.startswith("yaml.") and "load" in last and last != "safe_load")
            or (name.startswith("torch.") and last == "load" and "jit" in name)
            or (name == "torch.load" and not is_true(keywords.get("weights_only")))
            or (last == "load_from_checkpoint" and not is_true(keywords.get("weights_only")))
            or (name in ("np.load", "numpy.load") and "allow_pickle" in keywords)
            or ("shell" in keywords or name in ("os.system", "os.popen"))
        )
        found += [name] if unsafe else []
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module in ("pickle", "yaml", "os.system"):
            found.append(f"from {node.module}")
        if isinstance(node, ast.ClassDef):
            unpickles = any("Unpickler" in ast.unparse(base) for base in node.bases)
            safe = any(isinstance(n, ast.FunctionDef) and n.name == "find_class" for n in node.body)
            found += [node.name] if unpickles and not safe else []
            bases = {ast.unparse(base) for base in node.bases}
            found += sorted(b for b in bases if b.endswith("Loader") and b != "yaml.SafeLoader")
    return found


SOURCES = [file for part in ("clipseg_pl", "datamodules") for file in (ROOT / part).rglob("*.py")]


@pytest.mark.parametrize("file", SOURCES, ids=lambda file: str(file.relative_to(ROOT)))
def test_no_source_evaluates_what_it_reads(file):
    assert not unsafe_code(file.read_text())


@pytest.mark.parametrize(
    "source",
    [
        "eval(text)",
        "exec(text)",
        "pickle.loads(content)",
        "pickle.Unpickler(stream).load()",
        "from pickle import loads",
        "class Any(pickle.Unpickler):\n    pass",
        "class Any(yaml.UnsafeLoader):\n    pass",
        "yaml.load(text, yaml.Loader)",
        "yaml.unsafe_load(text)",
        "torch.load(file)",
        "torch.load(file, weights_only=False)",
        "torch.jit.load(file)",
        "CLIPSegModule.load_from_checkpoint(file)",
        "np.load(file, allow_pickle=True)",
        "subprocess.run(line, shell=True)",
        "os.system(line)",
    ],
)
def test_check_finds_unsafe_code(source):
    assert unsafe_code(source)
