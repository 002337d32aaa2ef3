"""Content of a fine-tuning report: its sections, with numbers from the results files only."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from clipseg_pl.atomic import write_text
from clipseg_pl.protocols.overlap import SIZE_NAMES
from clipseg_pl.protocols.own_data import BRIGHTNESS_NAMES, OBJECT_NAMES
from clipseg_pl.runs.fine_tuning.blocks import (
    Block,
    Command,
    Details,
    Heading,
    Paragraph,
    Pictures,
    Plots,
    Table,
    Tiles,
    to_html,
    write_markdown,
)
from clipseg_pl.runs.fine_tuning.plots import Curve, plot_groups, plot_history, plot_thresholds
from clipseg_pl.runs.fine_tuning.run_results import Change, Comparison, Results, RunResults

_METRICS = {"IoU": "miou", "Dice": "dice"}
_THRESHOLDS = ["threshold before", "threshold after"]
_CHANGES = [title for name in _METRICS for title in (f"{name} before", f"{name} after", "change")]
_GROUPS = {  # results files are sorted by name
    "share of the image": SIZE_NAMES,
    "brightness": BRIGHTNESS_NAMES,
    "number of objects": OBJECT_NAMES,
}
_MEMORY = {"gpu": "GPU memory", "process": "main memory"}
_COUNTS = ("photos", "without annotations", "filled from boxes", "samples")


def write_report(found: RunResults, folder: Path) -> tuple[Path, Path]:
    """Write the report of a run as report.html and report.md, with pictures in report/.

    Args:
        found: results of the run.
        folder: folder for the files; existing files are replaced.

    Returns:
        The HTML and the Markdown file.
    """
    title = f"Fine-tuning report: {found.run.resolve().name}"
    blocks, page, text = report_blocks(found), folder / "report.html", folder / "report.md"
    folder.mkdir(parents=True, exist_ok=True)
    write_text(page, to_html(title, blocks))
    write_markdown(text, title, blocks)
    return page, text


def report_blocks(found: RunResults) -> list[Block]:
    """Return the sections of the report of a run."""
    fit, compared, blocks = found.fit, found.compared, list[Block]()
    if compared:
        blocks += _summary(found, compared)
    for text, command in found.missing():
        blocks.append(Paragraph(f"{text} Run:" if command else text, note=True))
        blocks += [Command(command)] if command else []
    sources = [fit] if fit else []
    if compared:
        for section in (_overall, _by_class, _thresholds, _groups, _absent):
            blocks += section(compared)
        blocks += _pictures(found.run, compared.after)
        sources += [] if compared.after is fit else [compared.after]
    blocks += _training(fit) if fit else ()
    if sources:
        blocks += [*_cost(sources), *_data(sources), *_config(sources[0])]
    return blocks


def _summary(found: RunResults, compared: Comparison) -> Iterator[Block]:
    before, after = compared.before, compared.after
    model = "the decoder" if after is found.fit else Path(after.content["checkpoint"]).name
    initial = f" and of the initial weights ({before.initial_weights})" if before else ""
    yield Paragraph(
        f"Evaluation of {model} ({after.content['step']:,} training steps){initial} on "
        f"{after.metric('prompts') or 0:,} prompts about the {after.photos}. IoU and Dice are "
        "means over the prompts whose object is in the photo."
    )
    tiles = []
    for at, threshold in {"0.5": "0.5", "stored": _threshold(after.stored_threshold)}.items():
        for name, metric in {**_METRICS, "False positives": "absent_rate"}.items():
            start, end = compared.metric(metric, at)
            detail = "" if start is None else f"{_number(start)} before"
            tiles += [] if end is None else [(f"{name} at {threshold}", _number(end), detail)]
    yield Tiles(tiles)


def _overall(compared: Comparison) -> Iterator[Block]:
    before, after = compared.before, compared.after
    yield Heading("IoU and Dice")
    best, stored = compared.metric("threshold", "best"), after.stored_threshold
    kinds = {
        "0.5": ("fixed", Change(0.5, 0.5)),
        "stored": ("best on validation", Change(stored, stored)),
        "class": ("best of each class on validation", Change(None, None)),
        "best": (f"best on the {after.photos}", best),
    }
    rows = [
        [
            label,
            _threshold(thresholds.before if before else None),
            _threshold(thresholds.after),
            *_cells([compared.metric(metric, at) for metric in _METRICS.values()]),
        ]
        for at, (label, thresholds) in kinds.items()
        if after.metric(f"miou@{at}") is not None
    ]
    yield Table("", ["", *_THRESHOLDS, *_CHANGES], rows)


def _by_class(compared: Comparison) -> Iterator[Block]:
    before, after = compared.before, compared.after
    titles = {
        "0.5": "Threshold 0.5",
        "stored": f"Best threshold on validation ({_threshold(after.stored_threshold)})",
        "class": "Best threshold of each class on validation",
        "best": f"Best threshold of each class on the {after.photos}",
    }
    titles = {at: title for at, title in titles.items() if after.table(f"miou@{at} by class")}
    if titles:
        yield Heading("Classes")
    prompts = after.table("prompts by class")
    for at, title in titles.items():
        thresholds = {"class": "stored threshold by class", "best": "best threshold by class"}
        start, end = (
            results.table(thresholds[at]) if results and at in thresholds else {}
            for results in (before, after)
        )
        tables = [f"{metric}@{at} by class" for metric in _METRICS.values()]
        rows = [
            [
                name,
                _count(prompts.get(name)),
                _threshold(start.get(name)),
                _threshold(end.get(name)),
                *_cells([compared.entry(table, name) for table in tables]),
            ]
            for name in after.table(tables[0])
        ]
        yield Table(title, ["class", "prompts", *_THRESHOLDS, *_CHANGES], rows)


def _thresholds(compared: Comparison) -> Iterator[Block]:
    before, after, plots = compared.before, compared.after, []
    for name, metric in _METRICS.items():
        title = f"{metric} by threshold"
        if after.table(title):
            start = _curve(before.table(title)) if before else []
            end = _curve(after.table(title))
            plots.append(plot_thresholds(name, start, end, after.stored_threshold))
    if plots:
        yield Heading("Thresholds")
        yield Plots(plots)


def _groups(compared: Comparison) -> Iterator[Block]:
    plots, tables = [], []
    for groups, order in _GROUPS.items():
        prompts = compared.after.table(f"prompts by {groups}")
        titles = [f"{metric}@0.5 by {groups}" for metric in _METRICS.values()]
        changes = {
            name: [compared.entry(title, name) for title in titles]
            for name in order
            if name in compared.after.table(titles[0])
        }
        rows = [[name, _count(prompts.get(name)), *_cells(each)] for name, each in changes.items()]
        if rows:
            tables.append(Table("", [groups, "prompts", *_CHANGES], rows))
            plots.append(plot_groups(groups, {name: iou for name, (iou, _) in changes.items()}))
    if tables:
        yield Heading("Size, brightness and number of objects")
        yield Paragraph("At threshold 0.5.")
        yield Plots(plots)
        yield from tables


def _absent(compared: Comparison) -> Iterator[Block]:
    after, prompts = compared.after, compared.after.metric("absent_prompts")
    yield Heading("False positives")
    if not prompts:
        yield Paragraph("No prompt is known to be absent from its photo.")
        return
    yield Paragraph(
        f"{prompts:,} prompts name an object that is not in the photo. If any pixel exceeds the "
        "threshold, the prompt is a false positive. The area is the share of the image above the "
        "threshold, averaged over these prompts."
    )
    columns = ["share before", "share after", "change", "area before", "area after", "change"]
    labels = {"0.5": "0.5", "stored": _threshold(after.stored_threshold)}
    rows = [
        [label, *_cells([compared.metric(f"absent_{name}", at) for name in ("rate", "area")])]
        for at, label in labels.items()
        if after.metric(f"absent_rate@{at}") is not None
    ]
    yield Table("", ["threshold", *columns], rows)


def _pictures(run: Path, after: Results) -> Iterator[Block]:
    entries = after.content.get("examples", [])
    if not entries:
        return
    yield Heading("Pictures")
    yield Paragraph(
        "Prompts with the best, median and worst IoU. Each picture shows the photo, the target and "
        f"the mask at threshold {_threshold(after.threshold_in_use)}."
    )
    pictures = {
        run / entry["file"]: f"{entry['rank']}, IoU {_number(entry['iou'])}: {entry['phrase']} "
        f"({entry['photo']})"
        for entry in entries
    }
    yield Pictures([(file, caption) for file, caption in pictures.items() if file.is_file()])
    if missing := [file for file in pictures if not file.is_file()]:
        yield Paragraph(f"Missing pictures: {len(missing)}, such as {missing[0]}.", note=True)


def _training(fit: Results) -> Iterator[Block]:
    history = fit.content.get("history", {})
    titles = {"train/loss": "training loss"}
    for name, metric in _METRICS.items():
        titles[f"val/{fit.prompt_type}/{metric}@best"] = f"validation {name}, best threshold"
    if history:
        yield Heading("Training")
        yield Plots([plot_history(t, history[key]) for key, t in titles.items() if key in history])


def _cost(sources: Sequence[Results]) -> Iterator[Block]:
    rows, parameters = [], sources[0].content.get("parameters")
    if parameters:
        trained, total = parameters["trained"], parameters["total"]
        rows.append(["parameters trained", f"{trained:,} of {total:,} ({trained / total:.1%})"])
    for results in sources:
        content, name = results.content, "evaluation"
        if results.command == "fit":
            name = "training"
            rows.append(["steps", f"{content['step']:,}"])
            resumed = " since it was resumed" if content["config"].get("ckpt_path") else ""
            rows.append([f"duration of the training{resumed}", _time(content["seconds"])])
        elif "seconds_per_sample" in content:
            milliseconds = 1000 * content["seconds_per_sample"]
            rows.append(["evaluation of a phrase about a photo", f"{milliseconds:.0f} ms"])
        for kind, size in content.get("peak_memory_bytes", {}).items():
            rows.append([f"peak {_MEMORY[kind]}, {name}", f"{size / 1e9:.2f} GB"])
        rows.append([f"device, {name}", content["device"]])
    yield Heading("Cost")
    yield Table("", ["", ""], rows)


def _data(sources: Sequence[Results]) -> Iterator[Block]:
    splits: dict[str, dict[str, Any]] = {}
    skipped: dict[str, dict[str, int]] = {}
    for results in sources:
        sizes = results.content["dataset_sizes"]
        splits |= results.content.get("data") or {name: {"samples": n} for name, n in sizes.items()}
        skipped |= results.content["dataset_skipped"]
    yield Heading("Data")
    columns = [name for name in _COUNTS if any(name in counts for counts in splits.values())]
    rows = [[name, *(_count(counts.get(c)) for c in columns)] for name, counts in splits.items()]
    yield Table("", ["split", *columns], rows)
    photos = {name: counts["phrases"] for name, counts in splits.items() if "phrases" in counts}
    classes = sorted({name for counts in photos.values() for name in counts})
    rows = [
        [name, *(_count(counts.get(name, 0)) for counts in photos.values())] for name in classes
    ]
    if rows:
        yield Table("Photos by class", ["class", *photos], rows)
    filled = sum(counts.get("filled from boxes", 0) for counts in splits.values())
    if filled:
        yield Paragraph(
            f"{filled:,} annotations have a box and no mask. Their boxes are filled, so these "
            "targets, and all figures about them, are approximations.",
            note=True,
        )
    for name, counts in skipped.items():
        for reason, count in counts.items():
            yield Paragraph(f"Skipped in {name}: {count:,} {reason}.")


def _config(results: Results) -> Iterator[Block]:
    yield Heading("Config")
    yield Details(f"Settings of {results.command}", yaml.safe_dump(results.content["config"]))


def _cells(changes: Sequence[Change]) -> Iterator[str]:
    """Yield three cells for each number: before, after, and the difference."""
    for before, after in changes:
        yield _number(before)
        yield _number(after)
        yield "" if before is None or after is None else f"{after - before:+.3f}"


def _curve(table: Mapping[str, float]) -> Curve:
    return sorted((float(threshold), value) for threshold, value in table.items())


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.3f}"


def _threshold(value: float | None) -> str:
    return "" if value is None else f"{value:g}"


def _count(value: float | None) -> str:
    return "" if value is None else f"{value:,.0f}"


def _time(seconds: float) -> str:
    """Format a duration, for example as 40 s, 10 min or 3.2 h."""
    if seconds < 60:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 3600 else f"{seconds / 3600:.1f} h"
