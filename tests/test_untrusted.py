"""Files from anywhere: nothing in them is run, whichever way they come in."""

import ast
import json
import pickle
from pathlib import Path

import pytest
import torch
from PIL import Image

from clipseg_pl.cli.commands import export, segment
from clipseg_pl.cli.commands.doctor import main as doctor
from clipseg_pl.models.vit_backbone import build_vit
from datamodules.datasets.coco_20i import read_fold
from tests.command import arguments, run
from tests.conftest import TINY_CLIP, TINY_VIT
from tests.datasets.test_coco_20i import write_list
from tests.weights.test_clip_weights import Bomb

ROOT = Path(__file__).parents[1]


def saved(content: object, file: Path) -> None:
    torch.save(content, file)


def pickled(content: object, file: Path) -> None:
    file.write_bytes(pickle.dumps(content))


def old(content: object, file: Path) -> None:
    torch.save(content, file, _use_new_zipfile_serialization=False)


def validate(file, miniature, folder):
    run(*arguments("validate", miniature, folder, f"--ckpt_path={file}"))


def predict(file, miniature, folder):
    run(*arguments("predict", miniature, folder, f"--ckpt_path={file}"))


def fit(file, miniature, folder):
    run(*arguments("fit", miniature, folder, f"--ckpt_path={file}"))


def fit_from_a_decoder(file, miniature, folder):
    run(*arguments("fit", miniature, folder, f"--model.init_decoder={file}"))


def segment_by_it(file, miniature, folder):
    Image.new("RGB", (32, 24)).save(folder / "photo.png")
    given = ["--prompt", "a dog", "--checkpoint", str(file), "--out", str(folder / "out")]
    segment.main([str(folder / "photo.png"), *given])


def export_it(file, miniature, folder):
    export.main([str(file), "--to", "original", "--out", str(folder / "out.pth")])


def doctor_of_it(file, miniature, folder):
    doctor(["--checkpoint", str(file)])


def clips_weights(file, miniature, folder):
    (folder / "own.json").write_text(json.dumps(TINY_CLIP))
    (folder / "own.pt").write_bytes(file.read_bytes())
    changed = ["--model.backbone.init_args.name=own", "--model.backbone.init_args.pretrained=true"]
    run(*arguments("fit", miniature, folder / "run", *changed))


def vits_weights(file, miniature, folder):
    (folder / "own_vit.json").write_text(json.dumps(TINY_VIT))
    (folder / "own_vit.pt").write_bytes(file.read_bytes())
    build_vit("own", pretrained=True)


def lists_of_coco_20i(file, miniature, folder):
    write_list(folder, file.read_bytes())
    read_fold(folder, "val", 0)


WAYS = {
    validate: ".ckpt",
    predict: ".ckpt",
    fit: ".ckpt",
    fit_from_a_decoder: ".pth",
    segment_by_it: ".ckpt",
    export_it: ".pth",
    doctor_of_it: ".ckpt",
    clips_weights: ".pt",
    vits_weights: ".pt",
    lists_of_coco_20i: ".pkl",
}


@pytest.mark.parametrize(
    "write",
    [
        pytest.param(saved, id="saved"),
        pytest.param(pickled, id="pickled", marks=pytest.mark.slow),
        pytest.param(old, id="old", marks=pytest.mark.slow),
    ],
)
@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.__name__)
def test_no_pickle_is_run(way, write, miniature, tmp_path, monkeypatch):
    # torch's switch back to reading without `weights_only`, where a caller leaves it open
    monkeypatch.setenv("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", "1")
    monkeypatch.setenv("CLIPSEG_WEIGHTS", str(tmp_path))
    (tmp_path / "tiny.json").write_text(json.dumps(TINY_CLIP))
    file, trace = tmp_path / f"hostile{WAYS[way]}", tmp_path / "trace"
    write({"state_dict": {"weight": Bomb(trace)}, "hyper_parameters": Bomb(trace)}, file)
    with pytest.raises((SystemExit, ValueError)) as refused:
        way(file, miniature, tmp_path)
    assert refused.value.args != (0,) and not trace.exists()


def test_the_pickle_would_be_run_elsewhere(tmp_path):
    pickled({"weight": Bomb(tmp_path / "trace")}, tmp_path / "hostile.pkl")
    pickle.loads((tmp_path / "hostile.pkl").read_bytes())
    assert (tmp_path / "trace").exists()


def test_a_checkpoint_is_read_once_and_as_weights(trained, miniature, tmp_path, monkeypatch):
    read, load = [], torch.load

    def spy(file, *args, **options):
        read.append((Path(file).name, options.get("weights_only")))
        return load(file, *args, **options)

    monkeypatch.setattr(torch, "load", spy)
    last = trained / "checkpoints" / "last.ckpt"
    run(*arguments("validate", miniature, tmp_path, f"--ckpt_path={last}"))
    assert read == [("last.ckpt", True)]
    segment_by_it(last, miniature, tmp_path)
    doctor_of_it(last, miniature, tmp_path)
    export_it(last, miniature, tmp_path)
    assert read == [("last.ckpt", True)] * 4


@pytest.mark.parametrize("named", ["subprocess.Popen", "os.system", "pathlib.Path"])
def test_descriptions_name_no_other_class_than_a_backbone(trained, miniature, tmp_path, named):
    content = torch.load(trained / "checkpoints" / "last.ckpt", weights_only=True)
    hostile = {"class_path": named, "init_args": {"args": ["touch", str(tmp_path / "trace")]}}
    content["hyper_parameters"]["backbone"] = hostile
    torch.save(content, tmp_path / "odd.ckpt")
    for way in (validate, segment_by_it, doctor_of_it):
        with pytest.raises(SystemExit) as refused:
            way(tmp_path / "odd.ckpt", miniature, tmp_path)
        assert refused.value.code != 0
    assert not (tmp_path / "trace").exists()


FORBIDDEN = {"eval", "exec", "compile", "__import__"}


def calls(tree: ast.AST):
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            yield ast.unparse(node.func), {word.arg: word.value for word in node.keywords}


def constant(node: ast.AST | None) -> object:
    return node.value if isinstance(node, ast.Constant) else None


def problems(source: str) -> list[str]:
    """What in a file would run or build whatever it is given."""
    tree, found = ast.parse(source), []
    for name, words in calls(tree):
        last = name.rpartition(".")[2]
        unsafe = (
            name in FORBIDDEN
            or name.startswith(("pickle.load", "pickle.Unpickler", "marshal.", "shelve.", "dill."))
            or (name.startswith("yaml.") and "load" in last and last != "safe_load")
            or (name.startswith("torch.") and last == "load" and "jit" in name)
            or (name == "torch.load" and constant(words.get("weights_only")) is not True)
            or (last == "load_from_checkpoint" and constant(words.get("weights_only")) is not True)
            or (name in ("np.load", "numpy.load") and "allow_pickle" in words)
            or ("shell" in words or name in ("os.system", "os.popen"))
        )
        found += [name] if unsafe else []
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module in ("pickle", "yaml", "os.system"):
            found.append(f"from {node.module}")
        if isinstance(node, ast.ClassDef):
            unpickles = any("Unpickler" in ast.unparse(base) for base in node.bases)
            own = any(isinstance(n, ast.FunctionDef) and n.name == "find_class" for n in node.body)
            found += [node.name] if unpickles and not own else []
    return found


SOURCES = [file for part in ("clipseg_pl", "datamodules") for file in (ROOT / part).rglob("*.py")]


@pytest.mark.parametrize("file", SOURCES, ids=lambda file: str(file.relative_to(ROOT)))
def test_no_source_evaluates_what_it_reads(file):
    assert not problems(file.read_text())


@pytest.mark.parametrize(
    "source",
    [
        "eval(text)",
        "exec(text)",
        "pickle.loads(content)",
        "pickle.Unpickler(stream).load()",
        "from pickle import loads",
        "class Any(pickle.Unpickler):\n    pass",
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
def test_what_evaluates_is_found(source):
    assert problems(source)
