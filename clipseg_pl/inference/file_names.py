"""File names of masks."""

import os
import re
from collections.abc import Sequence

from clipseg_pl.atomic import LONGEST_NAME

NAME_PATTERN = "{photo}_{prompt}"
"""default file name of a mask, without its ending"""
_NAMED = ("png", "soft", "cutout")
_LONGEST_PROMPT = 40  # maximum characters of a prompt in a file name; each has up to four bytes


def check_name_pattern(pattern: str, form: str, several: bool) -> None:
    """Check a pattern of file names.

    Args:
        pattern: file name of a mask without its ending, with the fields `{photo}` and `{prompt}`.
        form: output format of `MaskFiles`.
        several: whether a photo has more than one mask.

    Raises:
        ValueError: if the format has fixed file names, the pattern has other braces or a slash,
            `{photo}` does not occur exactly once, or `{prompt}` is missing and there are several
            masks.
    """
    if pattern != NAME_PATTERN and form not in _NAMED:
        raise ValueError(f"name pattern needs a format with one file per mask: {', '.join(_NAMED)}")
    if re.search(r"[{}/\\]", re.sub(r"\{(photo|prompt)\}", "", pattern)):
        problem = "may contain {photo}, {prompt}, and text without braces and slashes"
    elif pattern.count("{photo}") != 1:
        problem = "must contain {photo} once"
    elif several and "{prompt}" not in pattern:
        problem = "must contain {prompt} if there are several prompts"
    else:
        return
    raise ValueError(f"name pattern {pattern!r} {problem}")


def name_prompts(prompts: Sequence[str]) -> list[str]:
    """Convert prompts to short, lower-case, unique parts of file names."""
    taken, names = {"overlay", "labels"}, []
    for prompt in prompts:
        name = re.sub(r"\W+", "_", prompt.lower())[:_LONGEST_PROMPT].strip("_") or "prompt"
        number, base = 1, name
        while name in taken:
            number += 1
            name = f"{base}_{number}"
        taken.add(name)
        names.append(name)
    return names


def join_name(stem: str, pattern: str, prompt: str = "") -> str:
    """Fill a pattern; shorten the name of the photo to the limit of file systems.

    Args:
        stem: name of the photo without its extension, with its subfolder.
        pattern: file name with the fields `{photo}` and `{prompt}`, including the ending.
        prompt: the prompt as a part of a file name.

    Returns:
        The file name, in the subfolder of the photo.
    """
    folder, slash, name = stem.rpartition("/")
    limit = LONGEST_NAME - len(os.fsencode(pattern.format(photo="", prompt=prompt)))
    photo = os.fsencode(name)[:limit].decode("utf-8", "ignore")
    return f"{folder}{slash}{pattern.format(photo=photo, prompt=prompt)}"
