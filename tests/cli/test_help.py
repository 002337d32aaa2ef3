import subprocess
import sys

import pytest

from clipseg_pl.cli.commands import COMMANDS

LIGHTNING = ("fit", "validate", "test", "predict")
HEAVY = {"torch", "numpy", "cv2", "lightning", "rich", "gradio", "huggingface_hub", "open_clip"}


@pytest.mark.parametrize("command", ["", *(name for name in COMMANDS if name not in LIGHTNING)])
def test_help_imports_no_heavy_library(command):
    code = (
        f"import sys; sys.argv[1:] = {[*command.split(), '--help']}\n"
        "from clipseg_pl.__main__ import main\n"
        "try: main()\n"
        "except SystemExit as exited: assert not exited.code\n"
        f"print(sorted({HEAVY} & sys.modules.keys()))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert f"usage: python -m clipseg_pl {command or '<command>'}" in done.stdout
    assert "example" in done.stdout
    assert done.stdout.endswith("\n[]\n")
