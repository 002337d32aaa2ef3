"""Ids in json files: whole numbers or text, each for one entry of a list."""

from collections.abc import Iterable, Mapping
from typing import TypeVar

Id = int | str
_Id = TypeVar("_Id", int, str, Id)
_Entry = TypeVar("_Entry")


def read_id(given: object) -> Id | None:
    """Read an id from JSON; None if the value is neither a whole number nor text.

    Whole floats are taken as integers: pandas writes 1.0 for 1.
    """
    if isinstance(given, float) and given.is_integer():
        return int(given)
    return given if isinstance(given, int | str) and not isinstance(given, bool) else None


def by_id(
    entries: Iterable[tuple[_Id, str, _Entry]], key: str, files: bool = False
) -> dict[_Id, _Entry]:
    """Entries by their ids.

    Args:
        entries: id, name and entry of each.
        key: name of the list.
        files: whether the names are those of files, of which each may come once.

    Raises:
        ValueError: if two entries have the same id, with both names; or name the same file.
    """
    found: dict[_Id, _Entry] = {}
    names: dict[_Id, str] = {}
    for number, name, entry in entries:
        if number in found:
            raise ValueError(
                f"{key} has id {number!r} twice, for {names[number]!r} and for {name!r}: "
                "every entry needs an id of its own"
            )
        found[number], names[number] = entry, name
    number_of: dict[str, _Id] = {}
    for number, name in names.items():
        if files and number_of.setdefault(name, number) != number:
            raise ValueError(
                f"{key} {number_of[name]!r} and {number!r} are both the file {name}: list a photo "
                "once, and different photos under different names"
            )
    return found


def look_up(entries: Mapping[Id, _Entry], given: object, key: str, field: str) -> _Entry:
    """The entry that an annotation is about.

    Args:
        entries: by id.
        given: the id that the annotation names.
        key: name of the list of entries.
        field: where the annotation has the id.

    Raises:
        ValueError: if there is none; if the id is text there and a number here, it says so.
    """
    number = read_id(given)
    if number is not None and number in entries:
        return entries[number]
    alike = [listed for listed in entries if str(listed) == str(number)]
    if alike:
        raise ValueError(
            f"has {field} {_typed(number)}, but {key} has id {_typed(alike[0])}: their types "
            "differ, write both as numbers"
        )
    raise ValueError(f"has {field} {given!r:.40}, which is not listed in {key}")


def _typed(number: object) -> str:
    return f"{number!r} ({'text' if isinstance(number, str) else 'a number'})"
