"""Careless edits, one a row, and the tests that must notice them."""

from typing import NamedTuple


class Mutant(NamedTuple):
    """One wrong edit of one file."""

    file: str
    source: str
    """text that is found exactly once in the file"""
    replacement: str
    tests: str
    """what pytest is given to notice it: files, or tests in them, separated by spaces"""


COUNTING = "tests/metrics/test_functional.py"
COUNTER = "tests/metrics/test_cpu_histograms.py"
PRECISION = "tests/metrics/test_average_precision.py"
STATES = "tests/metrics/test_threshold_counts.py"
CONFUSION = "tests/metrics/test_confusion.py"
PRESENCE = "tests/metrics/test_presence.py"
DELTA = "tests/metrics/test_alignment.py"
REFERRING = "tests/protocols/test_referring.py"
BENCHMARKS = "tests/protocols/test_benchmarks.py"
LOOP = "tests/protocols/test_against_loops.py::test_referring"
CLASS_LOOP = "tests/protocols/test_against_loops.py::test_one_shot"
SIZE_LOOP = "tests/protocols/test_against_loops.py::test_one_shot_at_the_targets_own_sizes"
GROUP_LOOP = "tests/protocols/test_against_loops.py::test_generalised"
OVERLAP = "tests/protocols/test_overlap.py"
CROPS = "tests/datasets/test_transforms.py"
NEGATIVES = "tests/datasets/test_negatives.py"
LETTERBOX = "tests/datasets/test_one_shot.py"
LVIS = "tests/datasets/test_lvis.py"
LONE = (
    "tests/datamodules/test_every_datamodule.py"
    "::test_phrases_without_a_partner_are_left_out_where_they_are_not_wanted"
)
SUPPORTS = "tests/datasets/test_supports.py"
SAMPLES = "tests/datasets/test_prompted.py"
DRAWS = " ".join(
    f"{SAMPLES}::test_{name}"
    for name in (
        "tasks_of_an_epoch_are_drawn_apart",
        "epochs_and_seeds_differ",
        "evaluation_does_not_vary_over_epochs",
    )
)
COMPANY = "tests/datasets/test_company.py"
BLEND = "tests/models/test_conditional.py"
SAMPLERS = "tests/datamodules/test_samplers.py"

# file -> tests -> (what stands there, what a careless edit makes of it)
_TABLE: dict[str, dict[str, list[tuple[str, str]]]] = {
    "clipseg_pl/metrics/functional.py": {
        COUNTING: [
            ("np.linspace(0, 1, 51)[1:-1]", "np.linspace(0, 1, 51)[:-2]"),
            ("if not (low >= 0 and high <= 1):", "if low < 0 or high > 1:"),
            ("out_int32=True\n", "out_int32=True, right=True\n"),
            ("index[valid.flatten(1)]", "index.flatten()"),
            ("None if valid is None else valid.flatten(1).numpy()", "None"),
            ("return Counts(tp, fp, fn, tn)", "return Counts(tp, fn, fp, tn)"),
            (
                "/ (1 + counts.tp + counts.fp + counts.fn)",
                "/ (counts.tp + counts.fp + counts.fn).clamp(min=1)",
            ),
            ("(1 + counts.tn + counts.fn + counts.fp)", "(1 + counts.tn + counts.fn)"),
            ("(iou_foreground(counts) + background) / 2", "iou_foreground(counts) + background"),
            (".cumsum(-1).flip(-1)[..., 1:]", ".cumsum(-1).flip(-1)[..., :-1]"),
        ],
        LOOP: [("passed = tp + fp > 0", "passed = tp > 0")],
        PRECISION: [
            (
                "recall, precision = tp / (1 + tp + fn), tp / (1 + tp + fp)",
                "recall, precision = tp / (1 + tp + fp), tp / (1 + tp + fn)",
            ),
            ("return float((first + last) / 2)", "return float(first)"),
            ("tp = positives.flip(0).cumsum(0).double()", "tp = positives.cumsum(0).double()"),
            ("_LARGEST_LOGIT = 16.0", "_LARGEST_LOGIT = 4.0"),
        ],
    },
    "clipseg_pl/metrics/cpu_histograms.py": {
        COUNTER: [("(probability > high)", "(probability >= high)")],
        COUNTING: [
            ("(probability <= low)", "(probability < low)"),
            ("counts[prompt] += found", "counts[prompt] = found"),
            ("range(0, pixels, _CHUNK)", "range(0, max(1, pixels - _CHUNK), _CHUNK)"),
        ],
    },
    "clipseg_pl/metrics/threshold_counts.py": {
        CLASS_LOOP: [("(self.positives + self.negatives).sum(1) > 0", "self.positives.sum(1) > 0")],
        STATES: [
            (
                '"positives", torch.zeros(_BINS, dtype=torch.long)',
                '"positives", torch.zeros(_BINS, dtype=torch.int)',
            ),
            ("self.negatives += given.negatives.sum(0)", "self.negatives = given.negatives.sum(0)"),
            ("self.iou_sum.sum(0) / every.clamp(min=1)", "self.iou_sum.sum(0)"),
            ("self.count += torch.bincount(group, minlength=len(self.count))", "self.count += 1"),
            ("levels[valid & ~target]", "levels[~target]"),
            ("(counts.fp > 0).sum(0)", "counts.fp.sum(0)"),
            ("self.count += len(given.negatives)", "self.count += 1"),
        ],
    },
    "clipseg_pl/metrics/confusion.py": {
        CONFUSION: [
            ("counted = target >= 0", "counted = target > 0"),
            (
                "union = pixels.sum(0) + pixels.sum(1) - hit",
                "union = pixels.sum(0) + pixels.sum(1)",
            ),
            ("if number not in unseen]", "if number and number not in unseen]"),
            ("2 * of_seen * of_unseen / both", "both / 2"),
        ],
    },
    "clipseg_pl/metrics/presence.py": {
        PRESENCE: [
            ("topk(max(1, ", "topk(min(1, "),
            ("_SHARE = 0.01", "_SHARE = 0.1"),
            ("(score * _LEVELS).long()", "(score * _LEVELS).round().long()"),
            ("(2 * below + absent)", "(2 * below)"),
            ("missed = absent.cumsum(0) - absent", "missed = absent.cumsum(0)"),
            (
                "int(_right(counts).argmax()) / _LEVELS",
                "(_LEVELS - int(_right(counts).flip(0).argmax())) / _LEVELS",
            ),
        ],
    },
    "clipseg_pl/metrics/alignment.py": {
        DELTA: [
            (".softmax(1)[:, 0]", ".softmax(0)[:, 0]"),
            ("gains.std() / len(gains) ** 0.5", "gains.std() / len(gains)"),
        ],
    },
    "clipseg_pl/protocols/base.py": {
        REFERRING: [('if reading == "visual" else', 'if reading == "text" else')],
    },
    "clipseg_pl/protocols/overlap.py": {
        LOOP: [
            ("(THRESHOLDS - threshold).abs().argmin()", "(THRESHOLDS > threshold).int().argmax()"),
            ("area = counted.positives.sum(1)", "area = target.flatten(1).sum(1)"),
        ],
        OVERLAP: [("curve.max() - _ROUNDING", "curve.max()")],
        REFERRING: [
            (
                "self.ap_exact.update(probability, target, valid)",
                "self.ap_exact.update(probability, target, valid | True)",
            ),
        ],
        BENCHMARKS: [("iou[seen].sum(0) / seen.sum().clamp(min=1)", "iou.mean(0)")],
    },
    "clipseg_pl/protocols/referring.py": {
        LOOP: [
            (
                "histograms(probability[absent], target[absent], valid[absent])",
                "histograms(probability[absent], target[absent])",
            ),
        ],
        REFERRING: [
            (
                "probability[~absent], target[~absent], valid[~absent], classes[~absent]",
                "probability, target, valid, classes",
            ),
            (
                "best(self.named[self.readings[0]].miou())",
                "best(self.named[self.readings[-1]].miou())",
            ),
        ],
    },
    "clipseg_pl/protocols/one_shot.py": {
        BENCHMARKS: [("align_corners=True)", "align_corners=False)")],
        SIZE_LOOP: [("new_tensor((height, width))).all(1)", "new_tensor((height, width))).any(1)")],
    },
    "clipseg_pl/protocols/zero_shot.py": {
        BENCHMARKS: [
            ("probability[:, 0] *= self", "probability[:, -1] *= self"),
            (".masked_fill(~valid, -1)", ".masked_fill(~valid, 0)"),
        ],
    },
    "clipseg_pl/protocols/generalised.py": {
        GROUP_LOOP: [('batch["valid_mask"][rows]', 'batch["valid_mask"][rows] | True')],
    },
    "datamodules/datasets/transforms.py": {
        CROPS: [
            ("CROP_SHARE = 0.05", "CROP_SHARE = 0.5"),
            ("interpolation=cv2.INTER_LINEAR)", "interpolation=cv2.INTER_NEAREST)"),
            ("part, size, interpolation=cv2.INTER_NEAREST", "part, size"),
            ("crop.left : crop.left + crop.side]", "crop.top : crop.top + crop.side]"),
            ("CROP_TRIES = 50", "CROP_TRIES = 5"),
            ("visible > share * mask.size", "visible >= share * mask.size"),
            ("visible > share * mask.size)", "visible > share * side * side)"),
            ("max(height, width) - side + 1, CROP", "max(height, width) - side, CROP"),
            ("max(height, width) - side + 1, CROP", "max(height, width), CROP"),
            ("starts[enough[0] if len(enough) else visible", "starts[visible"),
            ("else visible.argmax()])", "else visible.argmin()])"),
            (
                "Square(0, start, side) if width >= height else Square(start, 0, side)",
                "Square(start, 0, side) if width >= height else Square(0, start, side)",
            ),
            (
                "share * max(int(mask.sum()), side * side)",
                "share * min(int(mask.sum()), side * side)",
            ),
        ],
    },
    "datamodules/datasets/one_shot.py": {
        LETTERBOX: [
            ("if max(labels.shape) > size:", "if True:"),
            ("ratio = size / max(shape)", "ratio = size / min(shape)"),
        ],
    },
    "datamodules/datasets/lvis.py": {
        LVIS: [("if absent not in annotated]", "]")],
    },
    "datamodules/datasets/lvis_names.py": {
        LVIS: [("np.flatnonzero(~np.isin(", "np.flatnonzero(np.isin(")],
    },
    "datamodules/datasets/prompted.py": {
        NEGATIVES: [
            ("np.zeros_like(mask) if negative else mask", "mask"),
            ("drawn + (drawn >= own)", "drawn + (drawn > own)"),
            ('drawn, "right")', 'drawn, "left")'),
            (
                "self._supports(task, phrase, rng)",
                "self._supports(task, self.source.phrase(task), rng)",
            ),
        ],
        SUPPORTS: [
            ("partners = partners[partners != task]", "partners = partners[:]"),
            ("elif len(partners) == 1:", "elif len(partners) == 0:"),
            ("rng.uniform(settings.text_weight_min, ", "rng.uniform(0, "),
            ("float(weight) if supports else 1.0", "float(weight)"),
            ("blank_support and not self.train", "blank_support"),
            (
                "object_aware_crop(mask, rng) if self.train else None",
                "object_aware_crop(mask, rng)",
            ),
        ],
        DRAWS: [
            ("[self.seed, epoch if self.train else 0, task,", "[self.seed, 0, task,"),
            ("[self.seed, epoch if self.train else 0, task,", "[self.seed, epoch, task,"),
            ("[self.seed, epoch if self.train else 0, task,", "[epoch if self.train else 0, task,"),
            (
                "[self.seed, epoch if self.train else 0, task,",
                "[self.seed, epoch if self.train else 0,",
            ),
        ],
        LONE: [("if train and not prompting.lone_phrases:", "if False:")],
        COMPANY: [
            ("if mask.any():", "if True:"),
            ("drawn[: self.phrases_per_image - 1]", "drawn[: self.phrases_per_image]"),
            ("self.source.mask(other), crop)", "self.source.mask(other))"),
        ],
    },
    "clipseg_pl/models/clipseg.py": {
        BLEND: [
            ("weight * text + (1 - weight) * visual", "weight * visual + (1 - weight) * text"),
            ("weight * text + (1 - weight) * visual", "weight * text + visual"),
            (".masked_fill(count == 0, 1)", ""),
            ("visual / count.clamp(min=1)[:, None]", "visual"),
            ("visual / count.clamp(min=1)[:, None]", "visual / count.max()"),
        ],
    },
    "datamodules/samplers.py": {
        SAMPLERS: [
            ("(step * self.world_size + self.rank)", "(step * self.rank + self.world_size)"),
            ("(step * self.world_size + self.rank)", "(step * self.world_size)"),
            ("range(self.first_step, self.steps)", "range(self.steps - self.first_step)"),
            ("default_rng([self.seed, epoch])", "default_rng([self.seed])"),
            ("default_rng([self.seed, epoch])", "default_rng([epoch])"),
            ("min(start + self.batch_size, self.size)", "start + self.batch_size"),
            ("range(rank * batch_size, size, world", "range(rank * batch_size, size - 1, world"),
            (
                "range(rank * batch_size, size, world_size * batch_size)",
                "range(rank * batch_size, size, batch_size)",
            ),
            ("return max(1, len(self.starts))", "return len(self.starts)"),
        ],
    },
}

MUTANTS = [
    Mutant(file, source, replacement, tests)
    for file, by_tests in _TABLE.items()
    for tests, edits in by_tests.items()
    for source, replacement in edits
]
