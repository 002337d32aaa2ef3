"""Draw a contact sheet of the kinds of the toy world: `docs/toy_kinds.png`.

    python experiments/toy_kinds.py

The first rows show Pascal VOC's twenty classes, the others forty invented kinds, at 96 pixels.
"""

from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from datamodules.toy.scenes.kinds import INVENTED_KINDS, PASCAL_KINDS
from datamodules.toy.scenes.scene import draw_scene

OUT = Path(__file__).parents[1] / "docs" / "toy_kinds.png"
_SIDE, _TITLE, _COLUMNS = 96, 16, 10  # pixels, pixels, kinds per row
_INVENTED = 40  # number of invented kinds shown
_SEED = 0x5EE7


def draw_whole(kind: str, rng: np.random.Generator) -> Image.Image:
    """Draw an image of one thing that the border does not cut off."""
    while True:
        scene = draw_scene(rng, _SIDE, count=1, kinds=[kind], lengths=(0.6, 0.7))
        left, top, width, height = scene.things[0].box
        if min(left, top) > 0 and max(left + width, top + height) < _SIDE:
            return Image.fromarray(scene.image)


def main() -> None:
    """Draw one instance of each kind, with its name."""
    kinds = (*PASCAL_KINDS, *tuple(INVENTED_KINDS)[:_INVENTED])
    rows = -(-len(kinds) // _COLUMNS)
    sheet = Image.new("RGB", (_COLUMNS * _SIDE, rows * (_SIDE + _TITLE)), "white")
    pen, font = ImageDraw.Draw(sheet), ImageFont.load_default(12)
    for index, kind in enumerate(kinds):
        x, y = index % _COLUMNS * _SIDE, index // _COLUMNS * (_SIDE + _TITLE)
        sheet.paste(draw_whole(kind, np.random.default_rng((_SEED, index))), (x, y))
        pen.text((x + _SIDE / 2, y + _SIDE + _TITLE / 2), kind, "black", font, "mm")
    sheet.quantize(256).save(OUT, optimize=True)
    print(OUT)


if __name__ == "__main__":
    main()
