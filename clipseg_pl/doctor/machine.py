"""The cache, the devices and the libraries."""

import tempfile
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path

import torch
from packaging.requirements import Requirement

from clipseg_pl.doctor.findings import Finding
from clipseg_pl.models.precision import best_precision
from datamodules.datasets.files import cache_folder
from datamodules.toy.world import toy_root

_GIB = 1 << 30


def check_cache(root: Path, every: bool) -> Iterator[Finding]:
    """Whether indexes and the toy world can be written.

    Args:
        root: not used.
        every: not used.
    """
    folder = cache_folder()
    standing = next(place for place in (folder, *folder.absolute().parents) if place.exists())
    try:
        with tempfile.TemporaryFile(dir=standing):  # also asks whether the disk takes any
            pass
    except OSError as error:
        says = f"{standing} cannot be written to ({error.strerror}): set CLIPSEG_CACHE to a folder"
        yield Finding("wrong", "folder", f"{says} that can")
        return
    indexes = sum(1 for _ in (folder / "phrasecut").glob("refer_*"))
    toy = "there" if toy_root().is_dir() else "written on first use"
    yield Finding("ok", "folder", f"{folder}: {indexes} indexes of PhraseCut, toy world {toy}")


def check_devices(root: Path, every: bool) -> Iterator[Finding]:
    """What training and evaluation would run on; arguments as of `check_cache`."""
    precision = f"fit takes {best_precision('auto')}, evaluation 32-true, or --trainer.precision"
    for number in range(torch.cuda.device_count()):
        name, memory = torch.cuda.get_device_name(number), torch.cuda.mem_get_info(number)
        free, total = (f"{size / _GIB:.0f}" for size in memory)
        yield Finding("ok", f"GPU {number}", f"{name}, {free} of {total} GiB free; {precision}")
    threads = f"threads: {torch.get_num_threads()}"
    if torch.cuda.is_available():
        yield Finding("ok", "CPU", f"{threads}; for --trainer.accelerator cpu")
    else:
        none = f"torch {torch.__version__} finds no GPU"
        yield Finding("ok", "CPU", f"{threads}; {none}; {precision}")


def check_versions(root: Path, every: bool) -> Iterator[Finding]:
    """The installed libraries against pyproject.toml; arguments as of `check_cache`."""
    try:
        needed = [Requirement(line) for line in requires("clipseg_pl") or ()]
    except PackageNotFoundError:
        yield Finding("missing", "clipseg_pl", "not installed: pip install -e .")
        return
    fitting = []
    for requirement in needed:
        if requirement.marker and not requirement.marker.evaluate({"extra": ""}):
            continue
        wanted = f"{requirement.name}{requirement.specifier}"
        try:
            found = version(requirement.name)
        except PackageNotFoundError:
            yield Finding("missing", requirement.name, f"pip install '{wanted}'")
            continue
        if requirement.specifier.contains(found, prereleases=True):
            fitting.append(f"{requirement.name} {found}")
        else:
            says = f"{found} is installed: pip install '{wanted}'"
            yield Finding("wrong", requirement.name, says)
    yield Finding("ok", "libraries", f"{len(fitting)} fit pyproject.toml: {', '.join(fitting)}")
