"""Write experiments/BENCHMARKS.md, and its figures as JSON, from the output of pytest-benchmark.

pytest tests/benchmarks -n 0 --benchmark-json=benchmarks.json
python -m tests.benchmarks.page benchmarks.json
"""

import json
import sys
from collections import defaultdict
from importlib.metadata import version
from pathlib import Path

import matplotlib as mpl

mpl.use("Agg")
from matplotlib import pyplot as plt

EXPERIMENTS = Path(__file__).resolve().parents[2] / "experiments"
PACKAGES = ("torch", "transformers", "lightning", "numpy", "opencv-python-headless", "scikit-image")
HEAD = """\
# Benchmarks

`python -m tests.benchmarks.page` writes this page from the results of
`pytest tests/benchmarks -n 0`. Do not edit it by hand.

- Each speed-up (`x`) compares our code with a reference: transformers' CLIPSeg with the same
  weights (ViT-B/16, random, 352 px), or the reference that the row names. Training on 4 phrases an
  image is compared with 1 phrase an image, and training samples with the published pipeline.
- In the details, our figure comes first and the figure of the reference second.
- Our code and the reference run alternately, with the same number of threads. Whole commands run in
  separate processes, everything else in a single one. Times are medians over the rounds, and
  speed-ups are ratios of medians.
- All figures are from one processor, listed below with its vector instructions. Other processors
  give other speed-ups. [docs/speed.md](../docs/speed.md) has a figure for plain AVX2.

[docs/speed.md](../docs/speed.md) lists the effect of each optimisation and shows how to profile a
run.
"""
CURVES = "Time by number of prompts, image size, batch size and number of tasks"


def slim(raw: dict) -> dict:
    """Return the figures, the curves and the environment of a benchmark run."""
    curves: defaultdict[str, list] = defaultdict(list)
    figures, where = [], {}
    for benchmark in raw["benchmarks"]:
        extra = benchmark["extra_info"]
        figures += extra.get("figures", [])
        where |= extra.get("where", {})
        for name, point in extra.get("curve", {}).items():
            curves[name].append(point)
    return {
        "commit": raw["commit_info"]["id"],
        "dirty": raw["commit_info"]["dirty"],
        "date": raw["datetime"][:10],
        "machine": raw["machine_info"],
        "versions": {package: version(package) for package in PACKAGES},
        "figures": figures,
        "where": where,
        "curves": {name: sorted(points) for name, points in curves.items()},
    }


def write_page(found: dict) -> str:
    """Return the page as Markdown."""
    where = ", ".join(found["machine"].values())
    versions = ", ".join(f"{name} {number}" for name, number in found["versions"].items())
    changed = " with changes" if found["dirty"] else ""
    commit = f"commit {found['commit'][:10]}{changed}, {found['date']}"
    lines = [HEAD, f"{where}; {versions}; {commit}.\n"]
    lines += ["| benchmark | result | goal | details | rounds |", "|---|---:|---:|---|---:|"]
    for row in found["figures"]:
        measured = f"{row['figure']:.3g} {row['unit']}"
        cells = [row["work"], measured, row["goal"], row["detail"], str(row["rounds"])]
        lines.append(f"| {' | '.join(cells)} |")
    if found["where"]:
        spent = ", ".join(f"`{name}` {share:.0%}" for name, share in found["where"].items())
        lines += [f"\nShares of our training step's time, by torch's profiler: {spent}"]
    lines += [f"\n![{CURVES}](results/benchmark_curves.png)\n"]
    return "\n".join(lines)


def draw_curves(curves: dict, file: Path) -> None:
    """Plot each curve in a panel of its own, with logarithmic axes."""
    width = 4 * len(curves)
    figure, panels = plt.subplots(1, len(curves), figsize=(width, 3.4), squeeze=False)
    for axes, (name, points) in zip(panels[0], curves.items(), strict=True):
        axes.loglog(*zip(*points, strict=True), marker="o")
        for place, seconds in points:
            axes.annotate(f"{seconds:.2g}", (place, seconds * 1.2), ha="center", fontsize=8)
        low, high = (limit(seconds for _, seconds in points) for limit in (min, max))
        axes.set_ylim(low / 2, 2 * max(high, 2 * low))  # almost constant curves look flat
        axes.set(xlabel="tasks" if name.startswith("to the") else name, ylabel="seconds")
        axes.set_title(name if name.startswith("to the") else "", fontsize=10)
        axes.set_xticks([x for x, _ in points], [f"{x:,}" for x, _ in points], fontsize=7)
        axes.set_yticks([])
        axes.minorticks_off()
        axes.grid(alpha=0.3)
    figure.tight_layout()
    figure.savefig(file, dpi=110, metadata={"Software": None})


def main(file: Path) -> None:
    """Write the JSON file, the plot and the page."""
    found = slim(json.loads(file.read_text()))
    results = EXPERIMENTS / "results"
    (results / "benchmarks.json").write_text(json.dumps(found, indent=1) + "\n")
    if found["curves"]:
        draw_curves(found["curves"], results / "benchmark_curves.png")
    (EXPERIMENTS / "BENCHMARKS.md").write_text(write_page(found))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
