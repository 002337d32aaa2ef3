"""Inputs that are nearly right: valid files with bytes changed, valid JSON with values changed."""

import copy
import json

from hypothesis import strategies as st

ODD = st.one_of(
    st.none(),
    st.booleans(),
    st.sampled_from([0, -1, 1, 2, 3, 10**5, 2**31, 2**32, 2**63, 2**64 - 1, 10**400, -(2**63)]),
    st.integers(),
    st.floats(),
    st.text(max_size=8),
    st.sampled_from(["", "../../up", "/etc/passwd", "a\0b", "\ud800", "x" * 5000, "~", "\u202e"]),
    st.sampled_from([[], {}, [[]], [{}], {"a": []}]),
    st.lists(st.floats() | st.integers() | st.none() | st.text(max_size=3), max_size=8),
)
"""what may stand in JSON where something else should"""


@st.composite
def changed(draw, valid: bytes) -> bytes:
    """A file in which bytes are flipped, cut out, put in or repeated, at a few places."""
    content = bytearray(valid)
    for _ in range(draw(st.integers(1, 4))):
        kind = draw(st.sampled_from(["flip", "cut", "insert", "repeat", "end"]))
        # beginnings hold headers
        last = draw(st.sampled_from([min(64, len(content)), len(content)]))
        first = draw(st.integers(0, max(0, last - 1)))
        length = draw(st.integers(1, 16))
        if kind == "flip" and first < len(content):
            content[first] ^= draw(st.integers(1, 255))
        elif kind == "cut":
            del content[first : first + length]
        elif kind == "insert":
            content[first:first] = draw(st.binary(min_size=1, max_size=16))
        elif kind == "repeat":
            content[first:first] = content[first : first + length] * draw(st.integers(1, 50))
        else:
            del content[first:]
    return bytes(content)


@st.composite
def edited(draw, valid) -> object:
    """JSON in which a few values are replaced, removed or repeated."""
    content = copy.deepcopy(valid)
    for _ in range(draw(st.integers(1, 3))):
        places = list(_places(content))
        if not places:
            break
        holder, key = places[draw(st.integers(0, len(places) - 1))]
        kind = draw(st.sampled_from(["replace", "replace", "remove", "repeat"]))
        if kind == "remove":
            del holder[key]
        elif kind == "repeat" and isinstance(holder, list):
            holder.insert(key, copy.deepcopy(holder[key]))
        else:
            holder[key] = copy.deepcopy(draw(ODD))
    return content


def json_files(valid, nested: str = "[") -> st.SearchStrategy[bytes]:
    """Files of JSON: edited, changed in their bytes, nested without end."""
    text = json.dumps(valid)
    return st.one_of(
        edited(valid).map(lambda content: json.dumps(content).encode()),
        changed(text.encode()),
        st.integers(500, 200_000).map(lambda depth: (text[:-2] + nested * depth).encode()),
        st.sampled_from([b"", b"null", b"\xff\xfe", b"1" * 10_000, b'"' + b"x" * 100_000]),
    )


def _places(content):
    """Every holder and key in nested lists and dicts."""
    items = content.items() if isinstance(content, dict) else enumerate(content)
    for key, value in list(items):
        yield content, key
        if isinstance(value, dict | list):
            yield from _places(value)
