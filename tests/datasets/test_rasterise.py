"""Rasterizing polygons with pycocotools ("coco") and like PhraseCut's evaluator ("pil")."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageDraw

from datamodules.datasets.phrasecut import PhraseCut
from datamodules.datasets.transforms import rasterise

HEIGHT, WIDTH = 12, 16


def polygon(*points):
    return np.array(points, np.float64)


def box(left, top, right, bottom):
    return polygon((left, top), (right, top), (right, bottom), (left, bottom))


def filled(top, bottom, left, right):
    """Return a mask of rows top..bottom-1 and columns left..right-1."""
    mask = np.zeros((HEIGHT, WIDTH), bool)
    mask[top:bottom, left:right] = True
    return mask


def draw(polygons, rasterizer):
    mask = rasterise(polygons, HEIGHT, WIDTH, rasterizer)
    assert mask.shape == (HEIGHT, WIDTH) and mask.dtype == np.bool_
    return mask


def test_square_includes_its_lower_and_right_outline_with_pil_only():
    square = box(3, 2, 9, 8)
    assert np.array_equal(draw([square], "coco"), filled(2, 8, 3, 9))
    assert np.array_equal(draw([square], "pil"), filled(2, 9, 3, 10))  # includes the outline
    assert np.array_equal(draw([square[::-1]], "coco"), filled(2, 8, 3, 9))


def test_fractions_are_truncated_by_pil_and_rounded_by_coco():
    square = box(2.9, 1.9, 8.9, 7.9)
    assert np.array_equal(draw([square], "coco"), filled(2, 8, 3, 9))
    assert np.array_equal(draw([square], "pil"), filled(1, 8, 2, 9))


def test_pil_truncates_in_double_precision():
    below_5 = 4.999999999999999  # is 5 in float32
    assert np.array_equal(draw([box(1, 1, below_5, below_5)], "pil"), filled(1, 5, 1, 5))


@pytest.mark.parametrize("rasterizer", ["coco", "pil"])
def test_mask_is_the_union_of_the_polygons(rasterizer):
    apart = [box(1, 1, 4, 4), box(10, 6, 13, 9)]
    inside = [box(1, 1, 10, 10), box(3, 3, 6, 6)]  # not a hole: PhraseCut has no holes
    overlapping = [box(1, 1, 6, 6), box(4, 4, 9, 9)]
    for polygons in (apart, inside, overlapping):
        one_by_one = [draw([one], rasterizer) for one in polygons]
        assert np.array_equal(draw(polygons, rasterizer), np.any(one_by_one, axis=0))
    assert draw(inside, rasterizer)[4, 4]


def test_hole_connected_to_the_outline_stays_a_hole():
    ring = polygon(
        *[(1, 1), (11, 1), (11, 11), (1, 11), (1, 1)], *[(4, 4), (4, 8), (8, 8), (8, 4), (4, 4)]
    )
    for rasterizer in ("coco", "pil"):
        mask = draw([ring], rasterizer)
        assert mask[2, 6] and mask[6, 2] and not mask[6, 6]


def test_two_points_are_a_line_with_pil_and_empty_with_coco():
    line = polygon((2, 3), (9, 3))
    assert np.array_equal(draw([line], "pil"), filled(3, 4, 2, 10))
    assert not draw([line], "coco").any()
    square = box(1, 5, 4, 8)
    assert np.array_equal(draw([line, square], "coco"), draw([square], "coco"))


@pytest.mark.parametrize("rasterizer", ["coco", "pil"])
def test_polygons_are_clipped_to_the_image(rasterizer):
    assert not draw([box(20, 20, 30, 30)], rasterizer).any()
    assert not draw([box(-20, -20, -10, -10)], rasterizer).any()
    assert draw([box(-1e4, -1e4, 1e4, 1e4)], rasterizer).all()
    expected = filled(0, 4, 0, 4) if rasterizer == "coco" else filled(0, 5, 0, 5)
    assert np.array_equal(draw([box(-5, -5, 4, 4)], rasterizer), expected)
    assert not draw([], rasterizer).any()


def official(polygons, height, width):
    """Rasterize like PhraseCut's official evaluator (github.com/ChenyunWu/PhraseCutDataset).

    It draws each polygon with PIL's `ImageDraw.polygon(outline=1, fill=1)`, after truncating the
    coordinates to integers, and takes the union. Polygons of one point are skipped.
    """
    union = np.zeros((height, width), bool)
    for points in polygons:
        if len(points) >= 2:
            canvas = Image.new("L", (width, height), 0)
            corners = [(int(x), int(y)) for x, y in points]
            ImageDraw.Draw(canvas).polygon(corners, outline=1, fill=1)
            union |= np.array(canvas) == 1
    return union


coordinates = st.floats(-4, 20, allow_nan=False)
shapes = st.lists(st.tuples(coordinates, coordinates), min_size=1, max_size=7)


@settings(deadline=None, max_examples=200)
@given(st.lists(shapes, min_size=1, max_size=4))
def test_pil_equals_the_official_evaluator(point_lists):
    polygons = [polygon(*points) for points in point_lists]
    assert np.array_equal(draw(polygons, "pil"), official(point_lists, HEIGHT, WIDTH))


def even_odd(points, x, y):
    """Return whether a ray to the right of a point crosses the outline an odd number of times."""
    odd = False
    for (x0, y0), (x1, y1) in zip(points, points[1:] + points[:1], strict=True):
        if (y0 > y) != (y1 > y) and x < x0 + (y - y0) * (x1 - x0) / (y1 - y0):
            odd = not odd
    return odd


def distance(points, x, y):
    """Return the distance of a point to the outline."""
    nearest = np.inf
    for (x0, y0), (x1, y1) in zip(points, points[1:] + points[:1], strict=True):
        along, length = (x1 - x0, y1 - y0), np.hypot(x1 - x0, y1 - y0)
        share = ((x - x0) * along[0] + (y - y0) * along[1]) / length**2 if length else 0.0
        share = min(max(share, 0.0), 1.0)
        nearest = min(nearest, np.hypot(x - x0 - share * along[0], y - y0 - share * along[1]))
    return nearest


@settings(deadline=None)
@given(st.lists(st.tuples(coordinates, coordinates), min_size=3, max_size=8))
def test_away_from_the_outline_both_fill_the_interior(points):
    """PIL moves corners by up to 1 pixel and lines by up to 0.5; pixels count by their centres."""
    masks = {name: draw([polygon(*points)], name) for name in ("coco", "pil")}
    for row in range(HEIGHT):
        for column in range(WIDTH):
            x, y = column + 0.5, row + 0.5
            away, inside = distance(points, x, y), even_odd(points, x, y)
            assert away <= 1 or masks["coco"][row, column] == inside
            assert away <= 2 * 2**0.5 or masks["pil"][row, column] == inside


@pytest.mark.parametrize("radius", [3, 10, 40])
def test_radius_of_discs_is_half_a_pixel_larger_with_pil(radius):
    rng, side = np.random.default_rng(radius), 2 * radius + 10
    angles = np.arange(100) * 2 * np.pi / 100
    circle = radius * np.stack([np.cos(angles), np.sin(angles)], 1)
    areas = {"coco": [], "pil": []}
    for _ in range(100):
        disc = circle + side / 2 + rng.random(2)
        for name, values in areas.items():
            values.append(rasterise([disc], side, side, name).sum())
    radii = {name: (np.mean(values) / np.pi) ** 0.5 for name, values in areas.items()}
    assert radii["coco"] == pytest.approx(radius, abs=0.05)
    assert radii["pil"] == pytest.approx(radius + 0.5, abs=0.2)


def test_iou_between_the_rasterizers_on_real_annotations(real_data):
    """Measure the IoU between masks of "coco" and of "pil", for three object sizes.

    217 of the 710 masks are small (< 2 % of the image), 324 medium and 169 large (> 20 %).
    """
    ious, lines, empty = {"small": [], "mid": [], "large": []}, 0, 0
    for split in ("train", "val", "test"):
        source = PhraseCut(real_data / "phrasecut_coco", split)
        for task in range(len(source)):
            height, width = source.index.image_size[source.index.task_image[task]].tolist()
            polygons = source.index.polygons(task)
            coco, pil = (rasterise(polygons, height, width, r) for r in ("coco", "pil"))
            assert np.array_equal(pil, official([p.tolist() for p in polygons], height, width))
            lines += any(len(points) == 2 for points in polygons)
            empty += not coco.any()
            share = pil.mean()
            size = "small" if share < 0.02 else "large" if share > 0.2 else "mid"
            ious[size].append((coco & pil).sum() / (coco | pil).sum())
    assert [len(values) for values in ious.values()] == [217, 324, 169]
    mean = {size: float(np.mean(values)) for size, values in ious.items()}
    worst = {size: float(np.min(values)) for size, values in ious.items()}
    assert mean == pytest.approx({"small": 0.893, "mid": 0.960, "large": 0.984}, abs=0.002)
    assert worst == pytest.approx({"small": 0.628, "mid": 0.772, "large": 0.951}, abs=0.002)
    assert lines == 0 and empty == 0  # COCO's polygons have at least three points
