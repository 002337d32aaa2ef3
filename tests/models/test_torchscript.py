"""TorchScript archives, read without TorchScript."""

import pickle
import zipfile

import pytest
import torch
from torch import nn

from clipseg_pl.models.torchscript import read_torchscript
from clipseg_pl.models.weights import read_state_dict

pytestmark = pytest.mark.filterwarnings("ignore:.*torch.jit.*:FutureWarning")


class Part(nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(4, 6)[:, ::2])
        self.register_buffer("steps", torch.arange(3))
        self.register_buffer("passing", torch.zeros(2), persistent=False)
        self.plain, self.sizes, self.note = torch.ones(2), [1, 2], {"a": 1}

    def forward(self, x):
        return x @ self.weight


class Whole(nn.Module):
    """Has what OpenAI's archive has: halves, numbers, shared weights, parts in parts."""

    def __init__(self):
        super().__init__()
        self.parts = nn.Sequential(nn.Linear(3, 4, bias=False), Part(), nn.LayerNorm(3))
        self.halves = Part().half()
        self.scale = nn.Parameter(torch.tensor(2.0))
        self.tied = self.halves.weight
        self.attention = nn.MultiheadAttention(4, 2)

    def forward(self, x):
        return self.parts(x) * self.scale


@pytest.mark.parametrize("kind", ["scripted", "traced"])
def test_it_is_what_torch_reads(tmp_path, kind):
    module, file = Whole(), tmp_path / "archive.pt"
    made = (
        torch.jit.script(module)
        if kind == "scripted"
        else torch.jit.trace(module, torch.ones(2, 3))
    )
    made.save(str(file))
    expected, found = torch.jit.load(str(file)).state_dict(), read_torchscript(file)
    assert found.keys() == expected.keys() and len(found) > 8
    for key, tensor in expected.items():
        assert found[key].dtype == tensor.dtype and torch.equal(found[key], tensor)
    assert read_state_dict(file).keys() == expected.keys()


def rewritten(file, change):
    """An archive with another pickle."""
    torch.jit.script(nn.Linear(2, 3)).save(str(file))
    with zipfile.ZipFile(file) as archive:
        entries = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(file, "w") as archive:
        for name, content in entries.items():
            archive.writestr(name, change(content) if name.endswith("/data.pkl") else content)
    return file


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda _: b"cos\nsystem\n(Vtrue\ntR.", "it names os.system"),
        (lambda _: b"ctorch\nload\n(Vx\ntR.", "it names torch.load"),
        (lambda _: pickle.dumps({"a": 1}), "its pickle is no module"),
        (
            lambda content: content.replace(b"FloatStorage", b"DoubleStorage"),
            "is not 6 numbers of",
        ),
        (lambda content: content.replace(b"K\x02K\x01", b"K\x09K\x01", 1), "out of bounds"),
    ],
)
def test_what_is_not_in_such_an_archive_is_refused(tmp_path, change, reason):
    file = rewritten(tmp_path / "archive.pt", change)
    with pytest.raises((pickle.UnpicklingError, ValueError, RuntimeError), match=reason):
        read_torchscript(file)
    with pytest.raises(ValueError, match=r"archive\.pt: not a file of weights"):
        read_state_dict(file)
