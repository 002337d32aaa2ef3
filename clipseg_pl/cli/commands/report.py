"""The command `report`: write the report of a fine-tuning from the results of its run."""

import argparse
import sys
from pathlib import Path

from clipseg_pl.atomic import check_folders
from clipseg_pl.cli.commands import HelpFormatter


def main(args: list[str]) -> None:
    """Run the command. User errors exit with status 1 and a one-line message."""
    parser = argparse.ArgumentParser(
        prog="python -m clipseg_pl report",
        description="Write the report of a fine-tuning on your own data as report.html, a single "
        "file, and as report.md with its pictures in report/. Nothing is computed: all numbers are "
        "those of the results files that fit, validate and test wrote to the run's folder. The "
        "report compares the newest evaluation of a checkpoint of the run with the newest "
        "evaluation of the initial weights on the same data, and says which of them is missing.",
        epilog="example:\n"
        "  python -m clipseg_pl test --config runs/x/config.yaml\n"
        "  python -m clipseg_pl test --config runs/x/config.yaml "
        "--ckpt_path runs/x/checkpoints/best.ckpt\n"
        "  python -m clipseg_pl report runs/x",
        formatter_class=HelpFormatter,
    )
    parser.add_argument("run", type=Path, metavar="RUN", help="folder of the run, such as runs/x")
    parser.add_argument(
        "--out",
        type=Path,
        metavar="FOLDER",
        help="folder to write to (default: RUN); existing reports are replaced",
    )
    options = parser.parse_args(args)
    folder = options.out or options.run
    try:
        from clipseg_pl.runs.fine_tuning.run_results import read_run

        found = read_run(options.run)
        check_folders([folder])
        from clipseg_pl.runs.fine_tuning.content import write_report

        page, text = write_report(found, folder)
    except (OSError, ValueError) as error:
        sys.exit(f"clipseg_pl: {error}")
    for lacks, command in found.missing():
        print(f"{lacks} Run: {command}" if command else lacks)
    print(f"{page}\n{text}")
