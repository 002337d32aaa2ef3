"""Sweep files."""

import yaml
from hypothesis import strategies as st

from clipseg_pl.sweeps import read_sweep
from tests.fuzz.contained import inputs, try_out
from tests.fuzz.mutated import changed, edited

SWEEP = {
    "method": "grid",
    "metric": {"name": "val/text/miou@best", "goal": "maximize"},
    "parameters": {
        "model.decoder.init_args.dim": {"values": [16, 64]},
        "data.init_args.prompting.visual_prompt.init_args.context": {"values": ["null", 0.1]},
        "model.decoder.init_args.layers": {"value": [3, 7, 9]},
    },
    "command": ["${env}", "python", "-m", "clipseg_pl", "fit", "--config=a.yaml", "${args}"],
}
HOSTILE = [
    "!!python/object/apply:os.system ['exit 3']",
    "!!python/name:os.system",
    "2021-13-45",
    "0b" + "1" * 20_000,
    "1" * 20_000,
    ".inf",
    "*unknown",
    "? [a]",
    "<<: *a",
    "!!binary x",
    "!!timestamp 0000-00-00",
    "{a: &a [*a, *a]}",
]


def laughs(depth: int, place: str) -> bytes:
    """Nine aliases of nine aliases of ..., in place of a value."""
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, depth)]
    text = yaml.safe_dump(SWEEP).replace(place, f"*a{depth - 1}", 1)
    return ("name:\n" + "".join(f"  {line}\n" for line in lines) + text).encode()


FILES = st.one_of(
    changed(yaml.safe_dump(SWEEP).encode()),
    edited(SWEEP).map(lambda content: yaml.dump(content, allow_unicode=False).encode()),
    st.builds(
        lambda odd: yaml.safe_dump(SWEEP).replace("maximize", odd, 1).encode(),
        st.sampled_from(HOSTILE),
    ),
    st.builds(laughs, st.integers(1, 12), st.sampled_from(["16", "grid", "maximize", "python"])),
    st.integers(100, 20_000).map(lambda depth: b"parameters: " + b"[" * depth),
    st.integers(1, 40).map(
        lambda count: yaml.safe_dump(
            {**SWEEP, "parameters": {f"k{n}": {"values": [*range(20)]} for n in range(count)}}
        ).encode()
    ),
)


@inputs
def test_sweeps(tmp_path, inputs):
    file = tmp_path / "sweep.yaml"

    def read(content):
        file.write_bytes(content)
        sweep = read_sweep(file)
        for point in sweep.points():
            assert sweep.arguments(point)[0] == "fit"
            assert "/" not in sweep.folder_name({key: "../a" for key in point}).partition("=")[2]

    try_out(read, FILES, inputs)
