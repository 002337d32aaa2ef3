import json

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from datamodules.datasets import phrasecut_build
from datamodules.datasets.phrasecut_build import stream_tasks

values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)
lists_of_tasks = st.lists(st.dictionaries(st.text(), values, max_size=3), max_size=5)


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    tasks=lists_of_tasks,
    chunk=st.integers(1, 40),
    indent=st.sampled_from([None, 0, 2]),
    ascii_only=st.booleans(),
)
def test_equals_json_load_wherever_chunks_end(
    tmp_path, monkeypatch, tasks, chunk, indent, ascii_only
):
    monkeypatch.setattr(phrasecut_build, "_CHUNK", chunk)
    file = tmp_path / "tasks.json"
    file.write_text(json.dumps(tasks, indent=indent, ensure_ascii=ascii_only) + "\n", "utf-8")
    assert list(stream_tasks(file)) == tasks


@pytest.mark.parametrize("chunk", [1, 7, 1 << 22])
def test_every_truncation_is_noticed(tmp_path, monkeypatch, chunk):
    monkeypatch.setattr(phrasecut_build, "_CHUNK", chunk)
    whole = json.dumps([{"a": [1, "]"]}, {"b": "]}"}, {}])
    file = tmp_path / "tasks.json"
    for length in range(len(whole)):
        file.write_text(whole[:length])
        with pytest.raises(ValueError, match=r"tasks\.json"):
            list(stream_tasks(file))


def test_reads_little_of_a_long_file_before_the_first_task(tmp_path, monkeypatch):
    monkeypatch.setattr(phrasecut_build, "_CHUNK", 100)
    file = tmp_path / "tasks.json"
    file.write_text(json.dumps([{"a": i} for i in range(1000)])[:-1] + "broken")
    tasks = stream_tasks(file)
    assert [next(tasks) for _ in range(900)] == [{"a": i} for i in range(900)]
    with pytest.raises(ValueError, match="ends early or is not JSON"):
        list(tasks)
