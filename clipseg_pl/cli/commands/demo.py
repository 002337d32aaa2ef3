"""`demo`: a page to try a model on."""

import argparse
import os
import sys
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from clipseg_pl.weights.places import TOY, find_checkpoint

if TYPE_CHECKING:
    from PIL.Image import Image

_LARGEST_UPLOAD = 64 << 20  # bytes
_MOST_VISITORS = 32  # whose photos are kept in memory, a few megabytes each
_SIZE = 360, 480  # height and width of a scene in pixels
_SCENES = (
    (240, "car, road, grass, aeroplane"),  # there is no aeroplane
    (37, "grass, cat, car, boat"),  # nor a boat
    (10, "wall, motorbike, car, chair"),
    (42, "woman, car, sky"),
    (298, "sheep, bus, bottle, grass"),
    (8, "train, chair, boat, grass"),
)
"""seeds, and words to begin with; of 400 seeds among those that the toy weights do best on"""
_SUPPORT = 98
"""seed of the first support image; its sofa finds that of the first scene"""


def main(args: list[str]) -> None:
    """Parse and serve; one line and status 1 for what a user can mend."""
    parser = argparse.ArgumentParser(
        prog="python -m clipseg_pl demo",
        description="Serve a page to try a model on: choose a photo, type words or paint over an "
        "example, move the thresholds, download the masks. Nothing leaves this machine, and "
        "nothing is kept when the page ends. Needs Gradio: pip install -e '.[demo]'.",
        epilog="example: python -m clipseg_pl demo --checkpoint runs/pc_plus/checkpoints/best.ckpt",
    )
    parser.add_argument(
        "--checkpoint",
        default=TOY,
        help="as of `segment`; by default the toy weights, which know drawn scenes only",
    )
    parser.add_argument(
        "--host",
        default="127.0.0.1",
        help="address to serve on; 0.0.0.0 lets in whoever reaches this machine (default: this "
        "machine alone)",
    )
    parser.add_argument("--port", type=int, default=7860, help="default: %(default)s")
    given = parser.parse_args(args)
    if not 1 <= given.port <= 65535:
        parser.error(f"--port lies in [1, 65535], not {given.port}")
    try:
        find_checkpoint(given.checkpoint)
        if not find_spec("gradio"):
            raise ValueError("gradio is not installed: pip install -e '.[demo]'")
        with TemporaryDirectory(prefix="clipseg_demo_") as folder, suppress(KeyboardInterrupt):
            _serve(given, Path(folder))
    except (OSError, ValueError) as error:
        sys.exit(f"clipseg_pl: {error}")


def _serve(given: argparse.Namespace, folder: Path) -> None:
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"  # else importing it calls home
    os.environ["GRADIO_TEMP_DIR"] = str(folder)  # else uploads stay behind
    # Gradio asks its own server whether it is there, which no proxy can answer
    for name in ("NO_PROXY", "no_proxy"):
        os.environ[name] = ",".join(filter(None, (os.environ.get(name), given.host, "localhost")))

    from clipseg_pl.demo.page import CSS, Example, build_page
    from clipseg_pl.inference.segmenter import Segmenter

    segmenter = Segmenter.from_checkpoint(given.checkpoint)
    if given.checkpoint == TOY:
        about = "These are the toy weights: they know drawn scenes only. For photos, start the "
        about += "page with `--checkpoint`."
    else:
        about = f"Weights: `{given.checkpoint}`"
    examples = [Example(_draw_scene(seed), words) for seed, words in _SCENES]
    page = build_page(segmenter, examples, _draw_scene(_SUPPORT), about, folder)
    _, url, _ = page.launch(
        server_name=given.host,
        server_port=given.port,
        max_file_size=_LARGEST_UPLOAD,
        state_session_capacity=_MOST_VISITORS,
        share=False,
        ssr_mode=False,
        quiet=True,
        css=CSS,
        footer_links=[],
        prevent_thread_lock=True,
    )
    print(f"{url} shows the page; Ctrl+C ends it", flush=True)
    page.block_thread()


def _draw_scene(seed: int) -> "Image":
    import numpy as np
    from PIL import Image

    from datamodules.toy.scenes.scene import draw_scene

    return Image.fromarray(draw_scene(np.random.default_rng(seed), _SIZE, count=3).image)
