"""Toy scenes: things (objects) in front of stuff (such as sky), with masks of visible parts."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from datamodules.toy.language.words import COLOUR_WORDS
from datamodules.toy.scenes.grammar import SLOTS, Parts, draw
from datamodules.toy.scenes.kinds import INVENTED_KINDS, PASCAL_KINDS, VARIANTS, Kind
from datamodules.toy.scenes.paint import TEXTURES, paint, palette
from datamodules.toy.scenes.shapes import Shape
from datamodules.toy.scenes.stuff import STUFF, draw_background

_COUNTS = (0.16, 0.24, 0.25, 0.18, 0.11, 0.06)  # probability of 1 to 6 things, 3.0 on average
_SMALL, _LARGE = 0.035, 0.13  # a thing is small below, or large above, this share of the image
_MIN_VISIBLE = 0.45  # share of each thing that things drawn later must leave visible
_TRIES = 5  # attempts to place a thing
_MIN_SIDE = 32  # pixels
_PASCAL_SHARE = 0.35  # share of things of Pascal's kinds; the others are of invented kinds
_POOLS = tuple(INVENTED_KINDS), PASCAL_KINDS
_PLAIN = 0.35  # share forced to be plain; the rest sample all four textures, so half are plain


@dataclass(frozen=True)
class Thing:
    """One thing of a scene.

    Attributes:
        kind: One of `KINDS`; "" for a near miss, which differs from a kind in one part.
        variant: Equal to the kind, except for a person: "man" or "woman".
        parts: The parts that are drawn.
        colour: One of `COLOURS`.
        texture: One of `TEXTURES`.
        size: "small" or "large", by its share of the image before occlusion; "" for neither.
        box: x, y, width and height of the visible part in pixels.
        mask: (H, W) bool, the visible pixels; masks of a scene are disjoint.
    """

    kind: str
    variant: str
    parts: Parts
    colour: str
    texture: str
    size: str
    box: tuple[int, int, int, int]
    mask: NDArray[np.bool_]


_Labels = tuple[str, str, Parts, str, str]  # kind, variant, parts, colour, texture


@dataclass(frozen=True)
class Scene:
    """An image with its complete annotation.

    Attributes:
        image: (H, W, 3) uint8 RGB.
        things: The things, back to front.
        stuff: Name -> (H, W) bool mask of the visible part, for each visible stuff region.
    """

    image: NDArray[np.uint8]
    things: tuple[Thing, ...]
    stuff: dict[str, NDArray[np.bool_]]


@dataclass
class _Placed:
    """A rendered thing with its window in the image (rows and columns)."""

    labels: _Labels
    rows: slice
    columns: slice
    colours: NDArray[np.uint8]
    opacity: NDArray[np.uint8]

    @property
    def solid(self) -> NDArray[np.bool_]:
        return self.opacity >= 128


def _pose(
    rng: np.random.Generator, drawing: list[Shape], longest: float, centre: tuple[float, float]
) -> tuple[NDArray[np.float64], float]:
    """Stretch, rotate, flip and scale a drawing so that its longer side has `longest` pixels.

    Returns:
        (N, 2) points in pixels of the image, and the pixels per unit of the thing's frame.
    """
    points = np.concatenate([shape.points for shape in drawing])
    points = points * np.exp(rng.uniform(-0.14, 0.14, 2))
    angle = rng.normal(0, 0.1)
    cos, sin = np.cos(angle), np.sin(angle)
    points = points @ np.array(((cos, sin), (-sin, cos)))
    if rng.random() < 0.5:
        points[:, 0] *= -1
    low, high = points.min(0), points.max(0)
    unit = longest / float((high - low).max())
    return (points - (low + high) / 2) * unit + centre, unit


def _place(
    rng: np.random.Generator,
    shape: tuple[int, int],
    longest: float,
    look: Kind,
    labels: _Labels,
) -> _Placed | None:
    """Render one thing at a random place; return None if almost all of it is outside the image."""
    height, width = shape
    colour, texture = labels[-2:]
    drawing = draw(look.parts, look.proportions, rng)
    reach = 0.42 * longest
    centre = (
        rng.uniform(min(reach, width / 2), max(width - reach, width / 2)),
        rng.uniform(min(reach, height / 2), max(height - reach, height / 2)),
    )
    points, unit = _pose(rng, drawing, longest, centre)
    low = np.floor(points.min(0) - 0.12 * unit - 1).astype(int)
    high = np.ceil(points.max(0) + 0.12 * unit + 1).astype(int)
    left, top = max(0, low[0]), max(0, low[1])
    right, bottom = min(width, high[0]), min(height, high[1])
    if right - left < 4 or bottom - top < 4:
        return None
    period = max(3, round(longest * rng.uniform(0.13, 0.2)))
    colours, opacity = paint(
        drawing,
        points - (left, top),
        unit,
        palette(rng, colour),
        texture,
        period,
        (bottom - top, right - left),
    )
    return _Placed(labels, slice(top, bottom), slice(left, right), colours, opacity)


def _fits(owner: NDArray[np.int8], areas: list[int], new: _Placed) -> bool:
    """Return whether enough of every earlier thing stays visible behind the new one."""
    hidden = owner[new.rows, new.columns][new.solid]
    counts = np.bincount(hidden + 1, minlength=len(areas) + 1)[1:]
    visible = np.bincount((owner + 1).ravel(), minlength=len(areas) + 1)[1:]
    return all(
        v - c >= _MIN_VISIBLE * area for v, c, area in zip(visible, counts, areas, strict=True)
    )


def draw_scene(
    rng: np.random.Generator,
    size: int | tuple[int, int],
    *,
    count: int | None = None,
    kinds: Sequence[str] | None = None,
    colours: Sequence[str] = COLOUR_WORDS,
    lengths: tuple[float, float] | None = None,
    near_misses: float = 0.0,
) -> Scene:
    """Draw one scene; equal generators draw equal scenes.

    Args:
        rng: The only source of randomness.
        size: Side in pixels, or height and width; at least 32.
        count: Number of things, 0 to 6; random by default, 3.0 on average. Things that find no
            free place are left out.
        kinds: Kinds to choose from; by default, 35 % of the things are of Pascal's kinds and the
            others of invented kinds.
        colours: Colour names to choose from.
        lengths: Minimum and maximum of a thing's longer side, as a share of the shorter side of the
            image; by default they depend on the number of things.
        near_misses: Probability that one part of a thing is replaced, removed or added. The thing
            then has no kind.

    Raises:
        ValueError: If a side has fewer than 32 pixels.
    """
    height, width = (size, size) if isinstance(size, int) else size
    if min(height, width) < _MIN_SIDE:
        raise ValueError(
            f"size must be at least {_MIN_SIDE} pixels per side, got {height} x {width}"
        )
    image, regions = draw_background(rng, (height, width))
    wanted = 1 + int(rng.choice(len(_COUNTS), p=_COUNTS)) if count is None else count
    shortest, longest = lengths or ((0.4, 0.85) if wanted <= 1 else (0.26, 0.72 - 0.06 * wanted))
    owner = np.full((height, width), -1, np.int8)
    areas: list[int] = []
    placed: list[_Placed] = []
    for _ in range(wanted):
        pool = kinds or _POOLS[int(rng.random() < _PASCAL_SHARE)]
        kind = str(pool[int(rng.integers(len(pool)))])
        variants = tuple(VARIANTS[kind])
        variant = variants[rng.integers(len(variants))]
        look = VARIANTS[kind][variant]
        if rng.random() < near_misses:
            look, kind, variant = _near_miss(look, rng), "", ""
        texture = TEXTURES[int(rng.integers(len(TEXTURES)))]
        if rng.random() < _PLAIN:
            texture = "plain"
        labels = (
            kind,
            variant,
            look.parts,
            str(colours[int(rng.integers(len(colours)))]),
            texture,
        )
        for _ in range(_TRIES):
            side = rng.uniform(shortest, longest) * min(height, width)
            new = _place(rng, (height, width), side, look, labels)
            if new is None or not _fits(owner, areas, new):
                continue
            window = image[new.rows, new.columns]
            blend = (window * (255 - new.opacity[..., None].astype(np.uint16))) // 255
            np.copyto(window, np.minimum(blend + new.colours, 255).astype(np.uint8))
            owner[new.rows, new.columns][new.solid] = len(placed)
            areas.append(int(new.solid.sum()))
            placed.append(new)
            break
    image += rng.integers(0, 9, image.shape, np.uint8) * (image < 247)
    things = tuple(
        _thing(new.labels, owner == index, areas[index]) for index, new in enumerate(placed)
    )
    free = np.where(owner < 0, regions, 255)
    stuff = {STUFF[index]: free == index for index in np.unique(free) if index != 255}
    return Scene(image, things, stuff)


def _thing(labels: _Labels, mask: NDArray[np.bool_], area: int) -> Thing:
    """Return the annotation of a drawn thing; `area` is its size in pixels before occlusion."""
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    box = (int(columns[0]), int(rows[0]), int(np.ptp(columns)) + 1, int(np.ptp(rows)) + 1)
    share = area / mask.size
    size = "small" if share < _SMALL else "large" if share > _LARGE else ""
    return Thing(*labels, size, box, mask)


def _near_miss(look: Kind, rng: np.random.Generator) -> Kind:
    """Replace, remove or add one part.

    The result is never another kind, except that a man may become a woman or the reverse: all other
    looks differ in at least two parts.
    """
    slot = str(rng.choice(tuple(SLOTS)))
    old = getattr(look.parts, slot)
    values = [*SLOTS[slot], ""] if slot != "body" else [*SLOTS[slot]]
    choices = [value for value in values if value != old]
    return look._replace(parts=look.parts._replace(**{slot: str(rng.choice(choices))}))
