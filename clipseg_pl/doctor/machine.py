"""Check the cache folder, the devices and the library versions."""

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
    """Check that the cache folder, which stores PhraseCut indexes and the toy world, is writable.

    Args:
        root: not used; all checks have the same arguments.
        every: not used.
    """
    folder = cache_folder()
    existing = next(place for place in (folder, *folder.absolute().parents) if place.exists())
    try:
        with tempfile.TemporaryFile(dir=existing):  # detects read-only mounts too
            pass
    except OSError as error:
        problem = f"{existing} is not writable ({error.strerror})"
        yield Finding("wrong", "folder", f"{problem}: set CLIPSEG_CACHE to a writable folder")
        return
    indexes = sum(1 for _ in (folder / "phrasecut").glob("refer_*"))
    toy = "toy world present" if toy_root().is_dir() else "toy world is created on first use"
    yield Finding("ok", "folder", f"{folder}: PhraseCut indexes: {indexes}; {toy}")


def check_devices(root: Path, every: bool) -> Iterator[Finding]:
    """List the GPUs, the CPU and the default precision; see `check_cache` for the arguments."""
    precision = (
        f"default precision: {best_precision('auto')} for fit, 32-true for evaluation (change it "
        "with --trainer.precision)"
    )
    for number in range(torch.cuda.device_count()):
        name, memory = torch.cuda.get_device_name(number), torch.cuda.mem_get_info(number)
        free, total = (f"{size / _GIB:.0f}" for size in memory)
        yield Finding("ok", f"GPU {number}", f"{name}, {free} of {total} GiB free; {precision}")
    threads = f"threads: {torch.get_num_threads()}"
    if torch.cuda.is_available():
        yield Finding("ok", "CPU", f"{threads}; used with --trainer.accelerator cpu")
    else:
        no_gpu = f"torch {torch.__version__} found no GPU"
        yield Finding("ok", "CPU", f"{threads}; {no_gpu}; {precision}")


def check_versions(root: Path, every: bool) -> Iterator[Finding]:
    """Compare installed libraries with pyproject.toml; see `check_cache` for the arguments."""
    try:
        requirements = [Requirement(line) for line in requires("clipseg_pl") or ()]
    except PackageNotFoundError:
        yield Finding("missing", "clipseg_pl", "not installed: pip install -e .")
        return
    compatible = []
    for requirement in requirements:
        if requirement.marker and not requirement.marker.evaluate({"extra": ""}):
            continue
        required = f"{requirement.name}{requirement.specifier}"
        try:
            installed = version(requirement.name)
        except PackageNotFoundError:
            yield Finding("missing", requirement.name, f"not installed: pip install '{required}'")
            continue
        if requirement.specifier.contains(installed, prereleases=True):
            compatible.append(f"{requirement.name} {installed}")
        else:
            message = f"version {installed} is installed: pip install '{required}'"
            yield Finding("wrong", requirement.name, message)
    listing = ", ".join(compatible)
    yield Finding("ok", "libraries", f"compatible with pyproject.toml: {listing}")
