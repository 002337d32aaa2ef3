"""Tests of the helpers that find and run the commands of a page."""

from pathlib import Path

import pytest

from tests.docs.commands import commands, run_command

PAGE = """\
Text with `python -m clipseg_pl inline --x`.

    pip install -e . && python -m clipseg_pl first --a 1   # a comment
    echo nothing

```bash
python -m clipseg_pl second "two words" \\
  --b 2
```
python -m clipseg_pl outside
"""


def test_commands_are_found_in_order(tmp_path):
    (tmp_path / "page.md").write_text(PAGE)
    assert commands(tmp_path / "page.md") == [
        ["first", "--a", "1"],
        ["second", "two words", "--b", "2"],
    ]


def test_run_command_appends_options_and_raises_errors(tmp_path):
    before = Path.cwd()
    with pytest.raises(SystemExit, match="scenes must be at least 1, got 0"):
        run_command(["toy", "--root", "x", "--scenes", "3"], tmp_path, {"toy": ["--scenes=0"]})
    assert Path.cwd() == before
    assert (tmp_path / "experiments" / "toy.yaml").is_file()
