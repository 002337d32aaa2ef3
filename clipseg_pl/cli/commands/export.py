"""The command `export`: convert a model to or from the format of another library."""

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
from clipseg_pl.cli.commands import HelpFormatter
from clipseg_pl.weights.places import TOY, find_local

if TYPE_CHECKING:
    from clipseg_pl.convert.loading import LoadedModel, StoredModel

_SUFFIX = {"original": ".pth", "ckpt": ".ckpt"}
"""file endings of the single-file formats; the others are folders"""
_EXPORTED = {
    *("config.json", "preprocessor_config.json", "processor_config.json", "tokenizer_config.json"),
    *("special_tokens_map.json", "vocab.json", "merges.txt", "model.safetensors"),
    *("tokenizer.json", "pytorch_model.bin", "README.md"),
    *(f"{name}.onnx{end}" for name in ("encoder", "decoder", "text") for end in ("", ".data")),
}
"""file names in exported folders; --overwrite only replaces folders that contain no other files"""
_AUTHORS_WIDTHS = (768, 512)  # width of the activations and of the conditional vector in ViT-B


def main(args: list[str]) -> None:
    """Run the command. User errors exit with status 1 and a one-line message."""
    parser = argparse.ArgumentParser(
        prog="python -m clipseg_pl export",
        description="Convert a model to another format: Hugging Face CLIPSeg (a folder for "
        "from_pretrained), a decoder for the authors' code (.pth) or ONNX graphs (a folder). "
        "Models in the first two formats can also be converted to a checkpoint of this project "
        "(.ckpt).",
        epilog="example:\n  python -m clipseg_pl export runs/pc_plus/checkpoints/best.ckpt --to hf "
        "--out clipseg_hf",
        formatter_class=HelpFormatter,
    )
    parser.add_argument(
        "source",
        metavar="SOURCE",
        help="model to convert: checkpoint of `fit` (.ckpt), decoder of the authors (.pth), "
        "Hugging Face CLIPSeg (folder, weights file or OWNER/NAME on huggingface.co), or 'toy', "
        "the model included in the package",
    )
    parser.add_argument(
        "--to",
        choices=("hf", "original", "onnx", "ckpt"),
        required=True,
        help="target format (required). hf: Hugging Face CLIPSeg; original: the authors' code; "
        "onnx: ONNX; ckpt: checkpoint of this project",
    )
    parser.add_argument(
        "--out",
        type=Path,
        metavar="PATH",
        help="output folder for hf and onnx, output file for original (.pth) and ckpt (.ckpt) "
        "(required without --push)",
    )
    parser.add_argument(
        "--push",
        metavar="OWNER/NAME",
        help="upload the output of --to hf to this repository of huggingface.co; a new repository "
        "is private. The model card is replaced, so add its licence again",
    )
    parser.add_argument(
        "--overwrite",
        action="store_true",
        help="replace an existing output file or folder, and the model in the repository of "
        "--push; folders with files that are not from an export are never replaced",
    )
    parser.add_argument(
        "--backbone",
        metavar="NAME[:TAG]",
        help="CLIP model to combine with a published decoder, by its open_clip name or the name of "
        "a file in CLIPSEG_WEIGHTS; TAG selects the pretrained weights (default: the CLIP in "
        "SOURCE, else OpenAI's ViT-B/16)",
    )
    parser.add_argument(
        "--layers",
        type=int,
        nargs="+",
        metavar="N",
        help="tapped layers of CLIP, counted from 0, for a decoder of the authors (.pth), whose "
        "file does not store them (default: 3 7 9)",
    )
    options = parser.parse_args(args)
    suffix = _SUFFIX.get(options.to)
    if options.push and options.to != "hf":
        parser.error(f"--push needs --to hf, not {options.to}")
    if not options.push and not options.out:
        parser.error("--out is required without --push")
    if options.out and suffix and options.out.suffix != suffix:
        parser.error(f"--to {options.to} needs --out <name>{suffix}, not {options.out}")
    if options.out and not options.out.name:
        parser.error(f"--out needs a file or folder name, not {str(options.out)!r}")
    trained_here = options.source == TOY or options.source.endswith(".ckpt")
    if trained_here and (options.backbone or options.layers):
        parser.error(
            f"{options.source} stores its backbone and layers; omit --backbone and --layers"
        )
    if trained_here and options.to == "ckpt":
        parser.error(f"{options.source} is already a checkpoint of this project")
    try:
        if options.push:
            _check_push(options.push)
        with TemporaryDirectory() as temporary:
            _export(options, (options.out or Path(temporary, "hf")).expanduser())
    except (OSError, ValueError) as error:
        sys.exit(f"clipseg_pl: {error}")


def _export(options: argparse.Namespace, out: Path) -> None:
    folder = options.to not in _SUFFIX
    file = find_local(options.source)
    if file and out.resolve() in (file.resolve(), file.resolve().parent):
        raise ValueError(f"--out {out} is the source of the export: choose another path")
    check_folders([out if folder else out.parent])
    _check_replaceable(out, options.overwrite, folder)
    missing = [name for name in ("onnx", "onnxscript", "tokenizers") if not find_spec(name)]
    if options.to == "onnx" and missing:
        raise ValueError(f"{missing[0]} is not installed: pip install -e '.[onnx]'")
    from clipseg_pl.convert.loading import read_model

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("ignore")
        stored = read_model(options.source)
        source = _build(options, stored)
    for warning in caught:
        print(f"clipseg_pl: {warning.message}", file=sys.stderr)
    target = out if folder else out.parent
    out.parent.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=out if out.is_dir() else out.parent, prefix=".export-") as stage:
        notes = [*_unused_weights(stored), *_write(options, source, Path(stage), out)]
        if options.to == "hf":
            from clipseg_pl.convert.model_card import write_model_card

            given = Path(options.source).expanduser()
            origin = given.resolve().name if given.exists() else options.source
            write_model_card(Path(stage), options.push or out.name, origin, stored, source)
        target.mkdir(exist_ok=True)
        for old in target.glob("[!.]*") if folder else ():
            old.unlink()
        # reversed, so that the files of a CLIP are in place before the checkpoint that needs them
        written = sorted(Path(stage).iterdir(), reverse=True)
        files = [Path(shutil.move(file, target / file.name)) for file in written][::-1]
    for note in notes:
        print(f"clipseg_pl: {note}", file=sys.stderr)
    size = sum(file.stat().st_size for file in files) / 1e6
    names = ", ".join(file.name if folder else str(file) for file in files)
    if options.out:
        print(f"{out}: {names} ({size:.1f} MB)" if folder else f"{names} ({size:.1f} MB)")
    if options.push:
        address = _push(files, options.push, options.overwrite)
        print(f"{address}: {names} ({size:.1f} MB)")
    print(_usage_hint(options.to, options.push or str(out), source))


def _build(options: argparse.Namespace, stored: "StoredModel") -> "LoadedModel":
    from clipseg_pl.convert.checkpoints import PublishedWarning
    from clipseg_pl.convert.loading import build_model
    from clipseg_pl.models.clip_backbone import CLIPBackbone
    from clipseg_pl.weights.places import find_file

    warnings.simplefilter("always", PublishedWarning)
    name, _, tag = (options.backbone or "").partition(":")
    if tag and find_file(name, (".json",)):
        raise ValueError(
            f"--backbone {options.backbone}: {name} is a custom CLIP without tags; omit :{tag}"
        )
    backbone = CLIPBackbone(*options.backbone.split(":", 1)) if options.backbone else None
    return build_model(stored, backbone, options.layers)


def _write(
    options: argparse.Namespace, source: "LoadedModel", stage: Path, out: Path
) -> Iterator[str]:
    """Write to the empty folder `stage`; yield a note for every setting the format cannot store."""
    from clipseg_pl.models.backbone import PAPER_SIZE

    model = source.model
    settings = (
        source.image_size or PAPER_SIZE,
        source.threshold,
        source.absent_cut,
        source.class_thresholds,
    )
    if options.to == "hf":
        from clipseg_pl.convert.to_hugging_face import write_hugging_face

        write_hugging_face(stage, model, *settings)
        if model.unfreeze_blocks:
            yield (
                "Hugging Face's format has one image encoder: the trained blocks of CLIP replace "
                "the pre-trained ones. Masks of text prompts stay the same; those of image "
                "prompts change"
            )
    elif options.to == "onnx":
        from clipseg_pl.convert.onnx_graphs import write_onnx

        write_onnx(stage, model, *settings)
    elif options.to == "original":
        from clipseg_pl.convert.decoder_files import write_original

        write_original(stage / out.name, model)
        yield from _not_stored_in_pth(source)
    else:
        from clipseg_pl.convert.decoder_files import write_checkpoint, write_clip
        from clipseg_pl.weights.clip import PAPERS_CLIP, PAPERS_TAG

        name, _, tag = (options.backbone or PAPERS_CLIP).partition(":")
        if source.clip:  # the CLIP is written next to the checkpoint, which stores its name
            name = f"{out.stem}_clip"
            for end in (".json", ".safetensors"):
                _check_replaceable(out.with_name(name + end), options.overwrite, False)
            write_clip(stage, name, model.backbone, dict(source.clip))
        write_checkpoint(stage / out.name, source, name, tag or PAPERS_TAG)


def _unused_weights(stored: "StoredModel") -> Iterator[str]:
    """Yield a note if a file of the authors contains weights that CLIPSeg does not use."""
    from clipseg_pl.convert.key_map import UNUSED

    keys = [key for key in stored.state if key.startswith(UNUSED)]
    if keys:
        yield f"{stored.path}: dropped {', '.join(keys)}, which CLIPSeg does not use"


def _not_stored_in_pth(source: "LoadedModel") -> Iterator[str]:
    """Yield a note for each setting that a `.pth` cannot store and that is not the default."""
    from clipseg_pl.convert.from_hugging_face import is_imagenet_norm
    from clipseg_pl.models.decoder import default_layers

    layers = sorted(source.model.decoder.layers)
    backbone = source.model.backbone
    if tuple(layers) != default_layers(backbone.shape):
        listed = " ".join(map(str, layers))
        yield f".pth files do not store the tapped layers; load this one with --layers {listed}"
    if (backbone.shape.width, backbone.shape.embed_dim) != _AUTHORS_WIDTHS:
        yield "the authors' code supports CLIP ViT-B only; clipseg_pl needs --backbone to load it"
    if not is_imagenet_norm(backbone.mean.flatten().tolist(), backbone.std.flatten().tolist()):
        yield (
            ".pth files do not store the image normalisation; ImageNet's mean and standard "
            "deviation will be assumed"
        )
    if source.threshold is not None:
        yield (
            f".pth files do not store the threshold ({source.threshold:g}); programs that load "
            "this one use their default"
        )
    if source.absent_cut is not None:
        yield (
            f".pth files do not store the absent cut ({source.absent_cut:g}); programs that load "
            "this one use no cut"
        )
    if source.class_thresholds:
        yield (
            ".pth files do not store the thresholds of classes "
            f"({len(source.class_thresholds)} phrases); programs that load this one use one "
            "threshold for all prompts"
        )


def _check_replaceable(path: Path, overwrite: bool, folder: bool) -> None:
    """Raise FileExistsError if a path exists and may not be replaced.

    Args:
        path: output file or folder.
        overwrite: whether --overwrite is set.
        folder: whether a folder will be written.
    """
    if path.exists() and path.is_dir() != folder:
        found, expected = ("folder", "file") if path.is_dir() else ("file", "folder")
        raise FileExistsError(f"{path} is a {found}, but the export writes a {expected}")
    files = list(path.iterdir()) if path.is_dir() else []
    names = {file.name if file.is_file() else f"the folder {file.name}" for file in files}
    if path.exists() and (names or not folder) and not overwrite:
        raise FileExistsError(f"{path} exists; --overwrite replaces it")
    if others := sorted(names - _EXPORTED):
        raise FileExistsError(
            f"{path} contains {others[0]}, which is not from an export; choose another folder"
        )


def _check_push(repository: str) -> None:
    """Check the name of a repository and the access to huggingface.co, without a request.

    Raises:
        ValueError: if the name is invalid, offline mode is on, or there is no access token.
    """
    from huggingface_hub import constants, get_token
    from huggingface_hub.utils import validate_repo_id  # type: ignore[attr-defined]

    try:
        _owner, _name = repository.split("/")
        validate_repo_id(repository)
    except ValueError as error:
        raise ValueError(
            f"--push {repository} is not the name of a repository: give OWNER/NAME, with letters, "
            "digits, '-', '_' and '.'"
        ) from error
    if constants.HF_HUB_OFFLINE:
        raise ValueError("--push needs the network, but HF_HUB_OFFLINE is set; unset it")
    if not get_token():
        raise ValueError(
            "--push needs an access token of huggingface.co: log in with `hf auth login`, or set "
            "HF_TOKEN"
        )


def _push(files: list[Path], repository: str, overwrite: bool) -> str:
    """Upload files to the root of a repository in one commit.

    A missing repository is created, as a private one. With `overwrite`, files of an earlier export
    are replaced, and deleted if they are not in `files`.

    Returns:
        The address of the repository.

    Raises:
        FileExistsError: if the repository contains a model, and `overwrite` is false.
        OSError: if the upload fails.
    """
    from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi

    from clipseg_pl.weights.files import one_line

    api = HfApi(library_name="clipseg_pl")
    try:
        address = api.create_repo(repository, private=True, exist_ok=True)
        old = _EXPORTED.intersection(api.list_repo_files(repository))
        if old and not overwrite:
            raise FileExistsError(
                f"{repository} contains {min(old)}; --overwrite replaces the model in it"
            )
        added = [CommitOperationAdd(file.name, file) for file in files]
        deleted = [CommitOperationDelete(name) for name in old - {file.name for file in files}]
        api.create_commit(repository, [*added, *deleted], commit_message="Export from clipseg_pl")
    except FileExistsError:
        raise
    except Exception as error:  # the HTTP library of huggingface_hub depends on its version
        status = getattr(getattr(error, "response", None), "status_code", None)
        if status == 401:
            reason = "the access token is invalid; log in with `hf auth login`, or set HF_TOKEN"
        elif status == 403:
            owner = repository.partition("/")[0]
            reason = f"the access token has no write access to repositories of {owner}"
        else:
            reason = one_line(error)
        raise OSError(f"the upload to {repository} failed: {reason}") from error
    return str(address)


def _usage_hint(to: str, place: str, source: "LoadedModel") -> str:
    if to == "hf":
        return (
            f"in transformers: CLIPSegForImageSegmentation.from_pretrained({place!r}) and "
            f"CLIPSegProcessor.from_pretrained({place!r})"
        )
    if to == "onnx":
        return "see docs/export.md for an example with onnxruntime"
    if to == "original":
        layers = ", ".join(map(str, sorted(source.model.decoder.layers)))
        return (
            f"in the authors' code: model = CLIPDensePredT(..., extract_layers=[{layers}]), then "
            "model.load_state_dict(..., strict=False)"
        )
    where = f"CLIPSEG_WEIGHTS={shlex.quote(str(Path(place).parent))} " if source.clip else ""
    command = f"{where}python -m clipseg_pl segment photo.jpg --prompt 'a dog' --checkpoint"
    return f"{command} {shlex.quote(place)}"
