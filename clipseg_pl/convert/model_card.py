"""Model card: the README.md of an exported folder, which huggingface.co shows as its page."""

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from huggingface_hub import ModelCardData

from clipseg_pl.convert.loading import LoadedModel, StoredModel
from clipseg_pl.models.backbone import PAPER_SIZE
from clipseg_pl.models.clip_backbone import CLIPBackbone
from clipseg_pl.models.decoder import FiLMDecoder
from clipseg_pl.weights.hub import is_hub_name
from clipseg_pl.weights.places import TOY_CLIP

_CONFIG = "config.yaml"  # of a run, in its folder
_UNEVALUATED = "This model has not been evaluated: no results are stored with the exported file."
_WEB = (
    "CLIP was trained on English texts and images from the web. It inherits their biases and "
    "handles other languages and specialist terms poorly."
)
_DRAWN = "The model has only seen drawn scenes. It does not work on photos."
_METRICS = (
    "`miou` is the mean IoU over prompts or classes, `dice` the mean Dice over prompts, `iou_fg` "
    "the IoU of the foreground over all pixels, `iou_bin` the mean IoU of foreground and "
    "background, `ap` the average precision. `@0.3` is a metric at threshold 0.3, `@stored` at the "
    "stored threshold, `@class` at the stored thresholds of classes, `@best` at the best threshold "
    "for the evaluated data."
)
_TAGS = ["clipseg", "vision", "image-segmentation"]

_PAGE = """---
{metadata}
---

# {name}

[CLIPSeg](https://arxiv.org/abs/2112.10003) segments an image from a text prompt, or from an example image with a mask.
CLIP encodes image and prompt, and a decoder with {parameters:,} parameters turns both into a binary mask.

{settings}

## Training

{training}

## Evaluation

{evaluation}

## Use with transformers

```python
import torch
from PIL import Image
from transformers import CLIPSegForImageSegmentation, CLIPSegProcessor

model = CLIPSegForImageSegmentation.from_pretrained("{name}")
processor = CLIPSegProcessor.from_pretrained("{name}")

photo = Image.open("photo.jpg").convert("RGB")
prompts = ["a dog", "grass"]
inputs = processor(text=prompts, images=[photo] * len(prompts), padding=True, return_tensors="pt")
with torch.inference_mode():
    logits = model(**inputs).logits  # (2, {side}, {side}), of the photo resized to a square
size = photo.height, photo.width
resized = torch.nn.functional.interpolate(logits[:, None], size, mode="bilinear")[:, 0]
masks = resized.sigmoid() > {threshold:g}  # (2, height, width)
```

## Use with clipseg_pl

```bash
python -m clipseg_pl segment photo.jpg --prompt "a dog" --checkpoint {name}
```

```python
from clipseg_pl import Segmenter

segmenter = Segmenter.from_pretrained("{name}")
masks = segmenter("photo.jpg", ["a dog", "grass"]).masks  # (2, height, width)
```

## Limitations

- The decoder sees the resized photo as {patches} x {patches} patches. Masks of small or thin objects are coarse.
- {knowledge}

## Licence

To be filled in by the author of this repository.

## Citation

```bibtex
@inproceedings{{lueddecke22_cvpr,
    author    = {{L\\"uddecke, Timo and Ecker, Alexander}},
    title     = {{Image Segmentation Using Text and Image Prompts}},
    booktitle = {{Proceedings of the IEEE/CVF Conference on Computer Vision and Pattern Recognition (CVPR)}},
    year      = {{2022}},
    eprint    = {{2112.10003}}
}}
```
"""  # noqa: E501 - Markdown paragraphs


def write_model_card(
    folder: Path, name: str, origin: str, stored: StoredModel, source: LoadedModel
) -> None:
    """Write the model card of a model that `write_hugging_face` has exported.

    The card lists what the file stores. For a checkpoint in the folder of its run, it also lists
    the data of the training (`config.yaml`) and the results of this checkpoint (`results/`).

    Args:
        folder: existing folder.
        name: name of the repository ("owner/name") or folder, for the examples.
        origin: name of the exported file, folder or repository.
        stored: content of the exported file.
        source: the model built from it, with a FiLM decoder.
    """
    backbone, decoder = source.model.backbone, source.model.decoder
    assert isinstance(decoder, FiLMDecoder)
    checkpoint, file = stored.checkpoint, stored.path.absolute()
    results: list[str] = []
    training = f"Converted from `{origin}`, which does not store how the model was trained."
    clip: dict[str, Any] = {}
    if checkpoint is not None:
        clip = checkpoint["hyper_parameters"]["backbone"].get("init_args", {})
        run = file.parent.parent if _is_run(file.parent.parent) else None
        training = _table("setting", dict(_training(origin, checkpoint, run)))
        results = list(_results(file, checkpoint["global_step"], run)) if run else []
    threshold = source.threshold
    layers = ", ".join(map(str, sorted(decoder.layers)))
    trained = backbone.trained_blocks if isinstance(backbone, CLIPBackbone) else ()
    settings = {
        "CLIP": " ".join(f"`{clip[key]}`" for key in ("name", "tag") if key in clip),
        "head": decoder.settings["head"],
        "width of the decoder": decoder.settings["dim"],
        "tapped layers of CLIP": f"{layers} of {backbone.shape.depth}, counted from 0",
        "trained blocks of CLIP": ", ".join(trained),
        "image size": f"{source.image_size or PAPER_SIZE} px",
        "threshold": "not calibrated" if threshold is None else f"{threshold:g}",
        "absent cut": "none" if source.absent_cut is None else f"{source.absent_cut:g}",
        "thresholds of classes": "; ".join(
            f"{phrase}: {value:g}" for phrase, value in source.class_thresholds.items()
        ),
    }
    patches = max(1, round((source.image_size or PAPER_SIZE) / backbone.shape.patch_size))
    metadata = ModelCardData(
        library_name="transformers", pipeline_tag="image-segmentation", tags=_TAGS
    )
    page = _PAGE.format(
        metadata=metadata.to_yaml(),
        name=name,
        parameters=sum(weight.numel() for weight in decoder.parameters()),
        settings=_table("setting", {key: value for key, value in settings.items() if value}),
        training=training,
        evaluation="\n\n".join([*results, _METRICS]) if results else _UNEVALUATED,
        side=patches * backbone.shape.patch_size,
        threshold=0.3 if threshold is None else threshold,  # the paper's
        patches=patches,
        knowledge=_DRAWN if clip.get("name") == TOY_CLIP else _WEB,
    )
    (folder / "README.md").write_text(page, "utf-8")


def _is_run(folder: Path) -> bool:
    """Whether a folder has the config and the results of a run of `fit`."""
    return (folder / _CONFIG).is_file() and (folder / "results").is_dir()


def _training(
    origin: str, checkpoint: Mapping[str, Any], run: Path | None
) -> Iterator[tuple[str, str]]:
    """Yield name and value of the settings in a checkpoint and in the folder of its run."""
    excluded = checkpoint.get("excluded")
    yield "checkpoint", f"`{origin}` of the run `{run.name}`" if run else f"`{origin}`"
    yield "steps", f"{checkpoint['global_step']:,}"
    if run:
        settings = yaml.safe_load((run / _CONFIG).read_text("utf-8"))
        data = settings["data"]["init_args"]
        yield "data", _dataset(settings)
        yield "batch size", str(data["batch_size"])
        if prompting := data.get("prompting"):
            weights = f"{prompting['text_weight_min']:g} to {prompting['text_weight_max']:g}"
            blended = f"text and visual prompts, blended with a text weight of {weights}"
            yield "prompts", blended if prompting["supports"] else "text prompts"
            yield "negatives", f"{100 * prompting['negative_prob']:g} % of the prompts"
        if start := settings["model"].get("init_decoder"):
            yield "fine-tuned from", f"`{start if is_hub_name(start) else Path(start).name}`"
    if excluded is not None:
        yield "excluded classes", ", ".join(excluded) or "none"


def _results(file: Path, step: int, run: Path) -> Iterator[str]:
    """Yield a table for every results file in the run's folder that belongs to a checkpoint.

    The results of `fit` belong to a checkpoint of the last step. Other results name their
    checkpoint. The folder of the run may have been moved since. Results on a part of the data
    (`limit_val_batches`) are left out.
    """
    for written in sorted(run.glob("**/results/*.json")):
        command = written.name.partition("-")[0]
        if command not in ("fit", "validate", "test"):
            continue
        content = json.loads(written.read_text("utf-8"))
        trainer, evaluated = content["config"]["trainer"], Path(content["checkpoint"] or "")
        limit = trainer.get("limit_test_batches" if command == "test" else "limit_val_batches")
        whole = repr(limit) in ("None", "1.0")  # the integer 1 is one batch
        shared = min(3, len(evaluated.parts))  # <run>/checkpoints/best.ckpt
        named = shared > 0 and evaluated.parts[-shared:] == file.parts[-shared:]
        own = content["step"] == step and (named or command == "fit")
        if not (own and whole and content["metrics"]):
            continue
        rows: dict[str, dict[str, str]] = {}
        for key, value in content["metrics"].items():  # <split>/<prompt type>/<metric>
            prompt_type, _, metric = key.partition("/")[2].rpartition("/")
            rows.setdefault(metric, {})[prompt_type] = f"{value:.4g}"
        columns = list(dict.fromkeys(column for row in rows.values() for column in row))
        cells = {
            key: " | ".join(row.get(name, "") for name in columns) for key, row in rows.items()
        }
        sizes = content["dataset_sizes"].items()
        splits = ", ".join(
            f"{split} ({size:,} samples)" for split, size in sizes if split != "train"
        )
        caption = f"{_dataset(content['config'])}, {splits}. Results file: `{written.name}`"
        yield caption + "\n\n" + _table("metric", cells, columns)


def _dataset(config: Mapping[str, Any]) -> str:
    """Return the name of a config's dataset and the path of its class."""
    path: str = config["data"]["class_path"]
    toy = config["model"]["backbone"].get("init_args", {}).get("name") == TOY_CLIP
    world = " of the toy world" if toy else ""
    return f"{path.rpartition('.')[2].removesuffix('DataModule')}{world} (`{path}`)"


def _table(first: str, rows: Mapping[str, object], columns: Sequence[str] = ("value",)) -> str:
    """Format a table in Markdown. Cells of several columns are already joined."""
    lines = [f"| {first} | {' | '.join(columns)} |", "|---" * (1 + len(columns)) + "|"]
    return "\n".join([*lines, *(f"| {name} | {cells} |" for name, cells in rows.items())])
