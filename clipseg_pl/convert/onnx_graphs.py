"""Export of CLIPSeg to three ONNX graphs, for use without torch.

    text.onnx     token_ids (P, context) int64 -> conditional (P, C)
    encoder.onnx  images (B, 3, H, W) uint8 RGB -> patches (L, B, h, w, D), cls (L, B, D)
    decoder.onnx  patches, cls, conditional, query_index (P,) int64 -> logits (P, 1, H, W)

`context` is the number of tokens that CLIP's text encoder accepts (77 for OpenAI's CLIP). L is the
number of tapped layers; h and w are H and W in patches. The other axes are those of
`clipseg_pl.sample`. B, P, H and W are dynamic; H and W must be multiples of the patch size. The
decoder gets the grid from the shape of `patches`, so images of any aspect ratio work.
"""

import json
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.export import Dim

from clipseg_pl.convert.clip_vocabulary import whole_embedding, write_tokenizer
from clipseg_pl.models.attention import run_block
from clipseg_pl.models.clip_text import TextEncoder
from clipseg_pl.models.clipseg import CLIPSeg
from clipseg_pl.models.decoder import Decoder

ENCODER, DECODER, TEXT, TOKENIZER = "encoder.onnx", "decoder.onnx", "text.onnx", "tokenizer.json"
_OPSET = 18  # the exporter's native version
# maximum number of bytes of weights in an .onnx file: protobuf's limit of 2 GiB, minus 16 MiB for
# the graph; larger weights get a second file
_LARGEST = 2**31 - 2**24


class _Encoder(nn.Module):
    def __init__(self, model: CLIPSeg) -> None:
        super().__init__()
        self.model = model

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        encoding = self.model.encode(images)
        tokens = torch.stack(encoding.projected)  # L B 1+N D
        layers, batch, _, dim = tokens.shape
        patches = tokens[:, :, 1:].reshape(layers, batch, *encoding.grid, dim)
        return patches, tokens[:, :, 0]


class _Decoder(nn.Module):
    def __init__(self, decoder: Decoder) -> None:
        super().__init__()
        self.decoder = decoder

    def forward(
        self, patches: Tensor, cls: Tensor, conditional: Tensor, query_index: Tensor
    ) -> Tensor:
        tokens = torch.cat([cls[:, :, None], patches.flatten(2, 3)], 2)  # L B 1+N D
        grid = patches.shape[2], patches.shape[3]
        logits: Tensor = self.decoder(list(tokens), conditional, query_index, grid)
        return logits


class _Text(nn.Module):
    """The text encoder with CLIP's full vocabulary."""

    embedding: Tensor

    def __init__(self, text: TextEncoder) -> None:
        super().__init__()
        self.clip = text.clip
        self.register_buffer("embedding", whole_embedding(text).detach())

    def forward(self, token_ids: Tensor) -> Tensor:
        clip = self.clip
        states = self.embedding[token_ids] + clip.positional_embedding
        for block in clip.transformer.resblocks:
            states = run_block(block, states, causal=True)
        ends = token_ids.argmax(1)  # the end token has the largest id
        last = states[torch.arange(token_ids.shape[0]), ends]  # N context width -> N width
        conditional: Tensor = clip.ln_final(last) @ clip.text_projection
        return conditional


class _Graph(NamedTuple):
    """A module to export, with named example inputs, their dynamic axes and output names."""

    module: nn.Module
    inputs: Mapping[str, Tensor]
    dynamic: Mapping[str, Mapping[int, Any]]
    outputs: Sequence[str]


def write_onnx(
    folder: Path,
    model: CLIPSeg,
    image_size: int,
    threshold: float | None,
    absent_cut: float | None = None,
    class_thresholds: Mapping[str, float] | None = None,
) -> None:
    """Write the three graphs and a `tokenizer.json` that computes the token ids.

    The metadata of each graph contains `image_size`, `patch_size` and, if known, `threshold`,
    `absent_cut` and `class_thresholds` (JSON).

    Args:
        folder: existing folder; files with the same names are replaced.
        model: model on the CPU in evaluation mode, with CLIP's text encoder.
        image_size: side in pixels of the square training images.
        threshold: stored threshold of the probability.
        absent_cut: presence score below which a prompt is considered absent.
        class_thresholds: phrase -> threshold of its class.

    Raises:
        ImportError: if onnx or onnxscript is missing.
    """
    known = {
        "image_size": image_size,
        "patch_size": model.backbone.shape.patch_size,
        "threshold": threshold,
        "absent_cut": absent_cut,
        "class_thresholds": json.dumps(dict(class_thresholds)) if class_thresholds else None,
    }
    metadata = {key: str(value) for key, value in known.items() if value is not None}
    for name, graph in _graphs(model).items():
        _write(folder / name, graph, metadata)
    text: Any = model.backbone.text_encoder
    write_tokenizer(folder / TOKENIZER, text)


def _graphs(model: CLIPSeg) -> dict[str, _Graph]:
    shape = model.backbone.shape
    text: Any = model.backbone.text_encoder
    batch, prompts, height, width = (Dim(name) for name in ("B", "P", "h", "w"))
    # sizes must be distinct and not 1; otherwise the exporter makes them static
    images = torch.zeros(2, 3, 4 * shape.patch_size, 3 * shape.patch_size, dtype=torch.uint8)
    encoder = _Encoder(model)
    with torch.no_grad():
        patches, cls = encoder(images)
    sides = {2: shape.patch_size * height, 3: shape.patch_size * width}
    token_ids = torch.zeros(5, text.clip.context_length, dtype=torch.long)
    decoder_inputs = {
        "patches": patches,
        "cls": cls,
        "conditional": torch.zeros(5, shape.embed_dim),
        "query_index": torch.zeros(5, dtype=torch.long),
    }
    decoder_axes = {
        "patches": {1: batch, 2: height, 3: width},
        "cls": {1: batch},
        "conditional": {0: prompts},
        "query_index": {0: prompts},
    }
    return {
        TEXT: _Graph(
            _Text(text), {"token_ids": token_ids}, {"token_ids": {0: prompts}}, ["conditional"]
        ),
        ENCODER: _Graph(
            encoder, {"images": images}, {"images": {0: batch, **sides}}, ["patches", "cls"]
        ),
        DECODER: _Graph(_Decoder(model.decoder), decoder_inputs, decoder_axes, ["logits"]),
    }


def _write(file: Path, graph: _Graph, metadata: Mapping[str, str]) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # they are about axis names and torch's own deprecations
        program = torch.onnx.export(
            graph.module.eval(),
            tuple(graph.inputs.values()),
            dynamo=True,
            dynamic_shapes=dict(graph.dynamic),
            input_names=list(graph.inputs),
            output_names=list(graph.outputs),
            opset_version=_OPSET,
            verbose=False,
        )
    assert program is not None  # torch returns the program, because no file is passed
    program.model.metadata_props.update(metadata)
    parameters = (value.numel() * 4 for value in graph.module.state_dict().values())
    program.save(file, external_data=sum(parameters) > _LARGEST)
