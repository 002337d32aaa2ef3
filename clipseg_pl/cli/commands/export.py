"""`export`: a model in the format of another program, or of this one."""

import argparse
import shlex
import shutil
import sys
import warnings
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from clipseg_pl.atomic import check_folders
from clipseg_pl.weights.places import TOY, find_checkpoint

if TYPE_CHECKING:
    from clipseg_pl.convert.loading import LoadedModel, StoredModel

_SUFFIX = {"original": ".pth", "ckpt": ".ckpt"}
"""of what is one file; the others are folders"""
_FOLDERS = {
    *("config.json", "preprocessor_config.json", "processor_config.json", "tokenizer_config.json"),
    *("special_tokens_map.json", "vocab.json", "merges.txt", "model.safetensors"),
    *("tokenizer.json", "pytorch_model.bin"),
    *(f"{name}.onnx{end}" for name in ("encoder", "decoder", "text") for end in ("", ".data")),
}
"""of exports; --overwrite replaces a folder that holds nothing else"""
_AUTHORS_WIDTHS = (768, 512)  # of activations and conditional vectors


def main(args: list[str]) -> None:
    """Parse, load, write; one line and status 1 for what a user can mend."""
    parser = argparse.ArgumentParser(
        prog="python -m clipseg_pl export",
        description="Write a model as Hugging Face's CLIPSeg (a folder for from_pretrained), as a "
        "decoder of the authors (.pth), as ONNX graphs (a folder), or, where it comes from one of "
        "the first two, as a checkpoint of this project.",
        epilog="example: python -m clipseg_pl export runs/pc_plus/checkpoints/best.ckpt --to hf "
        "--out clipseg_hf",
    )
    parser.add_argument(
        "source",
        help="a checkpoint of `fit`, an authors' decoder (.pth), Hugging Face's CLIPSeg (its "
        "folder, or its file of weights), or 'toy'",
    )
    parser.add_argument("--to", choices=("hf", "original", "onnx", "ckpt"), required=True)
    parser.add_argument(
        "--out", type=Path, required=True, help="folder to write; a file for original and ckpt"
    )
    parser.add_argument("--overwrite", action="store_true", help="replace what is at --out")
    parser.add_argument(
        "--backbone",
        metavar="NAME[:TAG]",
        help="CLIP to put a published decoder on, as open_clip or a file in CLIPSEG_WEIGHTS names "
        "it; TAG says which of its weights (default: the CLIP in the source, else "
        "OpenAI's ViT-B/16)",
    )
    parser.add_argument(
        "--layers",
        type=int,
        nargs="+",
        metavar="N",
        help="blocks of CLIP that an authors' decoder taps, counted from 0, which its file does "
        "not say (default: 3 7 9)",
    )
    given = parser.parse_args(args)
    suffix = _SUFFIX.get(given.to)
    if suffix and given.out.suffix != suffix:
        parser.error(f"--to {given.to} writes one file: --out <name>{suffix}, not {given.out}")
    if not given.out.name:
        parser.error("--out names what is to be written")
    trained_here = given.source == TOY or given.source.endswith(".ckpt")
    if trained_here and (given.backbone or given.layers):
        parser.error(f"{given.source} says its backbone and layers itself")
    if trained_here and given.to == "ckpt":
        parser.error(f"{given.source} is a checkpoint of this project already")
    try:
        _export(given)
    except (OSError, ValueError) as error:
        sys.exit(f"clipseg_pl: {error}")


def _export(given: argparse.Namespace) -> None:
    out: Path = given.out.expanduser()
    folder = given.to not in _SUFFIX
    file = find_checkpoint(given.source).resolve()
    if out.resolve() in (file, file.parent):
        raise ValueError(f"{out} is what is exported: name another place")
    check_folders([out if folder else out.parent])
    _refuse_to_replace(out, given.overwrite, folder)
    missing = [name for name in ("onnx", "onnxscript", "tokenizers") if not find_spec(name)]
    if given.to == "onnx" and missing:
        raise ValueError(f"{missing[0]} is not installed: pip install -e '.[onnx]'")
    from clipseg_pl.convert.loading import read_model

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("ignore")
        stored = read_model(given.source)
        source = _build(given, stored)
    for warning in caught:
        print(f"clipseg_pl: {warning.message}", file=sys.stderr)
    target = out if folder else out.parent
    out.parent.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=out if out.is_dir() else out.parent, prefix=".export-") as stage:
        lines = [*_left_behind(stored), *_write(given, source, Path(stage), out)]
        target.mkdir(exist_ok=True)
        for old in target.glob("[!.]*") if folder else ():
            old.unlink()
        written = sorted(Path(stage).iterdir(), reverse=True)  # a checkpoint after its CLIP
        files = [Path(shutil.move(file, target / file.name)) for file in written][::-1]
    for line in lines:
        print(f"clipseg_pl: {line}", file=sys.stderr)
    size = sum(file.stat().st_size for file in files) / 1e6
    names = ", ".join(file.name if folder else str(file) for file in files)
    print(f"{out}: {names} ({size:.1f} MB)" if folder else f"{names} ({size:.1f} MB)")
    print(_how_to_use(given.to, out, source))


def _build(given: argparse.Namespace, stored: "StoredModel") -> "LoadedModel":
    from clipseg_pl.convert.checkpoints import PublishedWarning
    from clipseg_pl.convert.loading import build_model
    from clipseg_pl.models.clip_backbone import CLIPBackbone
    from clipseg_pl.weights.places import find_file

    warnings.simplefilter("always", PublishedWarning)
    name, _, tag = (given.backbone or "").partition(":")
    if tag and find_file(name, (".json",)):
        raise ValueError(f"--backbone {given.backbone}: {name}.json has one weights file, no tag")
    backbone = CLIPBackbone(*given.backbone.split(":", 1)) if given.backbone else None
    return build_model(stored, backbone, given.layers)


def _write(
    given: argparse.Namespace, source: "LoadedModel", stage: Path, out: Path
) -> Iterator[str]:
    """Write into an empty folder; yields what the new format does not store, a line each."""
    from clipseg_pl.models.backbone import PAPER_SIZE

    model = source.model
    known = source.image_size or PAPER_SIZE, source.threshold, source.absent_cut
    if given.to == "hf":
        from clipseg_pl.convert.to_hugging_face import write_hugging_face

        write_hugging_face(stage, model, *known)
    elif given.to == "onnx":
        from clipseg_pl.convert.onnx_graphs import write_onnx

        write_onnx(stage, model, *known)
    elif given.to == "original":
        from clipseg_pl.convert.decoder_files import write_original

        write_original(stage / out.name, model.decoder)
        yield from _not_in_a_pth(source)
    else:
        from clipseg_pl.convert.decoder_files import write_checkpoint, write_clip
        from clipseg_pl.weights.clip import PAPERS_CLIP, PAPERS_TAG

        name, _, tag = (given.backbone or PAPERS_CLIP).partition(":")
        if source.clip:  # which is written beside the checkpoint that names it
            name = f"{out.stem}_clip"
            for end in (".json", ".safetensors"):
                _refuse_to_replace(out.with_name(name + end), given.overwrite, False)
            write_clip(stage, name, model.backbone, dict(source.clip))
        write_checkpoint(stage / out.name, source, name, tag or PAPERS_TAG)


def _left_behind(stored: "StoredModel") -> Iterator[str]:
    """What an authors' file holds that no model has."""
    from clipseg_pl.convert.key_map import UNUSED

    keys = [key for key in stored.state if key.startswith(UNUSED)]
    if keys:
        yield f"{stored.path}: left out {', '.join(keys)}, which CLIPSeg never uses"


def _not_in_a_pth(source: "LoadedModel") -> Iterator[str]:
    """What the authors' format has no place for, where it is not what readers assume."""
    from clipseg_pl.convert.from_hugging_face import is_imagenets
    from clipseg_pl.models.decoder import default_layers

    layers = sorted(source.model.decoder.layers)
    backbone = source.model.backbone
    if tuple(layers) != default_layers(backbone.shape):
        listed = " ".join(map(str, layers))
        yield f"a .pth does not say its layers: whatever reads this one needs {listed} (--layers)"
    if (backbone.shape.width, backbone.shape.embed_dim) != _AUTHORS_WIDTHS:
        yield "the authors' code knows CLIP ViT-B only; here --backbone says which CLIP it is for"
    if not is_imagenets(backbone.mean.flatten().tolist(), backbone.std.flatten().tolist()):
        yield "a .pth does not say how images are normalised: readers will take ImageNet's mean"
    if source.threshold is not None:
        yield f"a .pth does not say the threshold, {source.threshold:g}: readers will take theirs"
    if source.absent_cut is not None:
        yield f"a .pth does not say the absent cut, {source.absent_cut:g}: readers will take none"


def _refuse_to_replace(path: Path, overwrite: bool, folder: bool) -> None:
    if path.exists() and path.is_dir() != folder:
        kinds = ("a folder", "a file") if path.is_dir() else ("a file", "a folder")
        raise FileExistsError(f"{path} is {kinds[0]}, and {kinds[1]} is to be written")
    files = list(path.iterdir()) if path.is_dir() else []
    held = {file.name if file.is_file() else f"the folder {file.name}" for file in files}
    if path.exists() and (held or not folder) and not overwrite:
        raise FileExistsError(f"{path} exists; --overwrite replaces it")
    if strange := sorted(held - _FOLDERS):
        raise FileExistsError(f"{path} holds {strange[0]} too: name another folder, or empty it")


def _how_to_use(to: str, out: Path, source: "LoadedModel") -> str:
    if to == "hf":
        return (
            f"in transformers: CLIPSegForImageSegmentation.from_pretrained({str(out)!r}) and "
            f"CLIPSegProcessor.from_pretrained({str(out)!r})"
        )
    if to == "onnx":
        return "docs/export.md has an example for onnxruntime"
    if to == "original":
        layers = ", ".join(map(str, sorted(source.model.decoder.layers)))
        return f"in the authors' code: CLIPDensePredT(..., extract_layers=[{layers}]), strict=False"
    where = f"CLIPSEG_WEIGHTS={shlex.quote(str(out.parent))} " if source.clip else ""
    command = f"{where}python -m clipseg_pl segment photo.jpg --prompt 'a dog' --checkpoint"
    return f"{command} {shlex.quote(str(out))}"
