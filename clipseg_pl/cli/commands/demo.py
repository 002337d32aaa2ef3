"""The command `demo`: serve a web page to try a model."""

import argparse
import os
import sys
from concurrent.futures import Future
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Thread
from typing import TYPE_CHECKING

from clipseg_pl.cli.commands import HelpFormatter
from clipseg_pl.cli.model_options import add_checkpoint_option
from clipseg_pl.weights.hub import find_cached
from clipseg_pl.weights.places import TOY, find_local

if TYPE_CHECKING:
    from PIL.Image import Image

    from clipseg_pl.inference.segmenter import Segmenter

_MAX_UPLOAD = 64 << 20  # bytes
_MAX_SESSIONS = 16  # visitors whose results are in memory, up to 60 MB each
_SIZE = 360, 480  # height and width of a scene in pixels
_SCENES = (
    (67, "car, road, wall, aeroplane"),  # no aeroplane in the scene
    (136, "bus, cat, sofa, sea"),
    (109, "tv, bottle, train, dog"),  # no dog in the scene
    (171, "motorbike, cat, boat, water"),
)
"""seeds and initial phrases of the sample scenes, the best results of 260 seeds"""
_SUPPORT = 171
"""seed of the initial support image; its boat works as a prompt for the first scene"""


def main(args: list[str]) -> None:
    """Run the command. User errors exit with status 1 and a one-line message."""
    parser = argparse.ArgumentParser(
        prog="python -m clipseg_pl demo",
        description="Serve a local web page to try a model on photos, with text prompts or a "
        "painted example. Uploads stay on this machine and are deleted on exit. Requires Gradio: "
        "pip install -e '.[demo]'.",
        epilog="example:\n"
        "  python -m clipseg_pl demo --checkpoint runs/pc_plus/checkpoints/best.ckpt",
        formatter_class=HelpFormatter,
    )
    add_checkpoint_option(parser)
    parser.add_argument(
        "--host",
        default="127.0.0.1",
        metavar="ADDRESS",
        help="address to listen on; 0.0.0.0 gives access to everyone who can reach this machine "
        "(default: 127.0.0.1, this machine only)",
    )
    parser.add_argument(
        "--port",
        type=int,
        default=7860,
        metavar="PORT",
        help="port to listen on, 1 to 65535 (default: 7860)",
    )
    options = parser.parse_args(args)
    if not 1 <= options.port <= 65535:
        parser.error(f"--port must be in [1, 65535], not {options.port}")
    try:
        find_local(options.checkpoint)  # reports a missing file before the page opens
        if not find_spec("gradio"):
            raise ValueError("gradio is not installed: pip install -e '.[demo]'")
        with TemporaryDirectory(prefix="clipseg_demo_") as folder, suppress(KeyboardInterrupt):
            _serve(options, Path(folder))
    except (OSError, ValueError) as error:
        sys.exit(f"clipseg_pl: {error}")


def _serve(options: argparse.Namespace, folder: Path) -> None:
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"  # else importing Gradio sends analytics
    os.environ["GRADIO_TEMP_DIR"] = str(folder)  # so that uploads are deleted on exit
    # Gradio polls its own server at startup, which fails through a proxy
    for name in ("NO_PROXY", "no_proxy"):
        os.environ[name] = ",".join(filter(None, (os.environ.get(name), options.host, "localhost")))

    from clipseg_pl.demo.page import CSS, Example, build_page

    name, examples, support = options.checkpoint, [], None
    if name == TOY:
        examples = [Example(_draw_scene(seed), words) for seed, words in _SCENES]
        support = _draw_scene(_SUPPORT)
    loading = f"Loading {name} ..."
    if not (find_local(name) or find_cached(name)):
        loading = f"Downloading {name} ... The terminal shows the size and the progress."
    model: Future[Segmenter] = Future()
    page = build_page(model, name, loading, folder, examples, support)
    _, url, _ = page.launch(
        server_name=options.host,
        server_port=options.port,
        max_file_size=_MAX_UPLOAD,
        state_session_capacity=_MAX_SESSIONS,
        share=False,
        ssr_mode=False,
        quiet=True,
        css=CSS,
        footer_links=[],
        prevent_thread_lock=True,
    )
    print(f"open {url} in a browser; press Ctrl+C to stop", flush=True)
    # a daemon, so that Ctrl+C also stops a download
    Thread(target=_load, args=(name, model), daemon=True).start()
    page.block_thread()


def _load(name: str, model: "Future[Segmenter]") -> None:
    """Load the model. Its errors are shown on the page and printed."""
    try:
        from clipseg_pl.inference.segmenter import Segmenter

        model.set_result(Segmenter.from_pretrained(name))
    except Exception as error:
        model.set_exception(error)
        if not isinstance(error, OSError | ValueError):
            raise
        print(f"clipseg_pl: {error}", file=sys.stderr)


def _draw_scene(seed: int) -> "Image":
    import numpy as np
    from PIL import Image

    from datamodules.toy.scenes.kinds import PASCAL_KINDS
    from datamodules.toy.scenes.scene import draw_scene

    rng = np.random.default_rng(seed)
    return Image.fromarray(draw_scene(rng, _SIZE, count=3, kinds=PASCAL_KINDS).image)
