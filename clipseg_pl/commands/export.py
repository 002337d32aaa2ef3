"""`export`: a model in the format of another program, or of this one."""

import argparse
import os
import shlex
import shutil
import sys
import tempfile
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from clipseg_pl.paths import check_folders, find_checkpoint

if TYPE_CHECKING:
    from clipseg_pl.models.published import Published

_TOY = "toy"
_SUFFIX = {"original": ".pth", "ckpt": ".ckpt"}
"""of what is one file; the others are folders"""
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
    trained_here = given.source == _TOY or given.source.endswith(".ckpt")
    if trained_here and (given.backbone or given.layers):
        parser.error(f"{given.source} says its backbone and layers itself")
    if trained_here and given.to == "ckpt":
        parser.error(f"{given.source} is a checkpoint of this project already")
    try:
        _export(given, trained_here)
    except (OSError, ValueError) as error:
        sys.exit(f"clipseg_pl: {error}")


def _export(given: argparse.Namespace, trained_here: bool) -> None:
    out: Path = given.out.expanduser()
    clip = f"{out.stem}_clip"
    folder = given.to not in _SUFFIX
    find_checkpoint(given.source)
    _refuse_to_replace([out], given.overwrite, folder)
    check_folders([out.parent])
    if folder and out.is_dir():
        _refuse_strangers(out, given.to)
    missing = [name for name in ("onnx", "onnxscript") if not find_spec(name)]
    if given.to == "onnx" and missing:
        raise ValueError(f"{missing[0]} is not installed: pip install -e '.[onnx]'")
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("ignore")
        source = _load(given, trained_here)
    for warning in caught:
        print(f"clipseg_pl: {warning.message}", file=sys.stderr)
    if given.to == "ckpt" and source.clip:  # which is written beside the checkpoint that names it
        beside = [out.with_name(clip + suffix) for suffix in (".json", ".safetensors")]
        _refuse_to_replace(beside, given.overwrite, folder)
    target = out.resolve() if folder else out  # a link to a folder stays
    with _staging(target) as stage:
        for line in _write(given, source, stage, clip):
            print(f"clipseg_pl: {line}", file=sys.stderr)
        files = _move(stage, target, folder)
    size = sum(file.stat().st_size for file in files) / 1e6
    names = ", ".join(file.name if folder else str(file) for file in files)
    print(f"{out}: {names} ({size:.1f} MB)" if folder else f"{names} ({size:.1f} MB)")
    print(_how_to_use(given.to, out, source))


def _load(given: argparse.Namespace, trained_here: bool) -> "Published":
    """The model, on the CPU."""
    from clipseg_pl.models.checkpoints import PublishedWarning
    from clipseg_pl.models.clip_backbone import CLIPBackbone
    from clipseg_pl.models.published import Published, load_published
    from clipseg_pl.models.weights import find_file
    from clipseg_pl.segmenter import Segmenter

    if trained_here:
        segmenter = Segmenter.from_checkpoint(given.source)
        calibrated = segmenter.threshold, segmenter.absent_cut or None
        return Published(segmenter.model.cpu(), segmenter.image_size, *calibrated, None)
    warnings.simplefilter("always", PublishedWarning)
    name, _, tag = (given.backbone or "").partition(":")
    if tag and find_file(name, (".json",)):
        raise ValueError(f"--backbone {given.backbone}: {name}.json has one weights file, no tag")
    backbone = CLIPBackbone(*given.backbone.split(":", 1)) if given.backbone else None
    return load_published(given.source, backbone, given.layers)


def _write(given: argparse.Namespace, source: "Published", stage: Path, clip: str) -> Iterator[str]:
    """Write into an empty folder; what of the model its new format does not keep, a line each."""
    model = source.model
    known = source.image_size, source.threshold, source.absent_cut
    yield from _left_behind(given.source)
    if given.to == "hf":
        from clipseg_pl.models.to_hugging_face import write_hugging_face

        write_hugging_face(stage, model, *known)
    elif given.to == "onnx":
        from clipseg_pl.models.onnx_graphs import write_onnx

        write_onnx(stage, model, *known)
    elif given.to == "original":
        from clipseg_pl.models.decoder_files import write_original

        write_original(stage / given.out.name, model.decoder)
        yield from _not_in_a_pth(source)
    else:
        from clipseg_pl.models.clip_weights import PAPERS_CLIP, PAPERS_TAG
        from clipseg_pl.models.decoder_files import write_checkpoint, write_clip

        name, _, tag = (given.backbone or PAPERS_CLIP).partition(":")
        if source.clip:
            name = clip
            write_clip(stage, name, model.backbone, dict(source.clip))
        write_checkpoint(stage / given.out.name, source, name, tag or PAPERS_TAG)


def _left_behind(source: str) -> Iterator[str]:
    """What an authors' file holds that no model has."""
    if source.endswith(".pth"):
        from clipseg_pl.models.key_map import UNUSED
        from clipseg_pl.models.weights import read_state_dict

        keys = [key for key in read_state_dict(Path(source).expanduser()) if key.startswith(UNUSED)]
        if keys:
            yield f"{source}: left out {', '.join(keys)}, which CLIPSeg never uses"


def _not_in_a_pth(source: "Published") -> Iterator[str]:
    """What the authors' format has no place for, where it is not what readers assume."""
    from clipseg_pl.models.decoder import default_layers
    from clipseg_pl.models.from_hugging_face import is_imagenets

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


def _refuse_to_replace(written: Sequence[Path], overwrite: bool, folder: bool) -> None:
    for path in written:
        if path.exists() and path.is_dir() != folder:
            kinds = ("a folder", "a file") if path.is_dir() else ("a file", "a folder")
            raise FileExistsError(f"{path} is {kinds[0]}, and {kinds[1]} is to be written")
        empty = folder and path.is_dir() and not any(path.iterdir())
        if path.exists() and not empty and not overwrite:
            raise FileExistsError(f"{path} exists; --overwrite replaces it")


def _refuse_strangers(out: Path, to: str) -> None:
    """Leave what is not of an export where it is."""
    from clipseg_pl.models import onnx_graphs, to_hugging_face

    files = to_hugging_face.FILES if to == "hf" else onnx_graphs.FILES
    strange = sorted({file.name for file in out.iterdir()}.difference(files))
    if strange:
        raise FileExistsError(f"{out} holds {strange[0]} too: name another folder, or empty it")


@contextmanager
def _staging(out: Path) -> Iterator[Path]:
    """An empty folder on the same disk, gone afterwards with what is still in it."""
    out.parent.mkdir(parents=True, exist_ok=True)
    private = Path(tempfile.mkdtemp(dir=out.parent, prefix=f".{out.name}-"))
    stage = private / "new"  # readable to whom its place is readable, unlike its parent
    stage.mkdir()
    try:
        yield stage
    finally:
        shutil.rmtree(private, ignore_errors=True)


def _move(stage: Path, out: Path, folder: bool) -> list[Path]:
    """Put what was written where it belongs."""
    names = sorted(file.name for file in stage.iterdir())
    if not folder:
        for name in names[::-1]:  # a checkpoint after the CLIP that it names
            os.replace(stage / name, out.with_name(name))
        return [out.with_name(name) for name in names]
    if out.exists():
        os.rename(out, stage.with_name("old"))
    os.rename(stage, out)
    return [out / name for name in names]


def _how_to_use(to: str, out: Path, source: "Published") -> str:
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
