"""One run, one folder: where it lies, and that no other run writes into it."""

import os
from pathlib import Path

from jsonargparse import Namespace
from lightning.pytorch.utilities import rank_zero_only

from clipseg_pl.runs.run import CHECKPOINTS


def experiment_name(config: Namespace) -> str:
    """A run is its configs: their stems, joined, as in `pc_plus+no_visual`."""
    stems = [Path(str(file)).stem for file in config.get("config") or []]
    return "+".join(stems) or "run"


def find_run_folder(verb: str, config: Namespace) -> Path:
    """The folder given, else that of the checkpoint to evaluate, else runs/<experiment name>.

    A W&B agent starts the same configs again and again, and its command cannot name the run: what
    it starts lies in runs/sweeps/<id of the sweep>/<id of the run>.
    """
    if config.trainer.default_root_dir:
        return Path(config.trainer.default_root_dir)
    checkpoint = config.get("ckpt_path")
    if verb != "fit" and checkpoint and Path(checkpoint).parent.name == CHECKPOINTS:
        return Path(checkpoint).parent.parent
    sweep_id, run_id = os.environ.get("WANDB_SWEEP_ID"), os.environ.get("WANDB_RUN_ID")
    if sweep_id and run_id:
        return Path("runs") / "sweeps" / sweep_id / run_id
    return Path("runs") / experiment_name(config)


def started_again() -> bool:
    """Whether SLURM has requeued this job, or torchrun restarts it: its command is the same."""
    counts = ("SLURM_RESTART_COUNT", "TORCHELASTIC_RESTART_COUNT")
    return any(int(os.environ.get(count, "0")) > 0 for count in counts)


@rank_zero_only
def claim(folder: Path, checkpoint: str | None) -> None:
    """Refuse the folder of another run; of the one gone on with, keep the metrics.

    A folder holds a run if it has checkpoints or the results of a finished training. Evaluations,
    and a training that left neither, do not count. What was left of writing when it was killed is
    removed. metrics.csv is moved out of the way, since lightning's logger deletes it when it
    starts.

    Raises:
        FileExistsError: for the folder of another run.
    """
    used = folder / CHECKPOINTS
    own = Path(checkpoint or "").resolve().parent == used.resolve()
    saved, finished = any(used.glob("[!.]*")), any(folder.glob("results/fit-*.json"))
    if (saved or finished) and not own:
        going_on = "go on with --ckpt_path last, or " if saved else ""
        raise FileExistsError(
            f"{folder} holds a run already: {going_on}remove it, or set another "
            "--trainer.default_root_dir"
        )
    for draft in used.glob(".*.tmp"):  # see `write_whole`
        draft.unlink(missing_ok=True)
    file = folder / "metrics.csv"
    if file.exists():
        earlier = len(list(folder.glob("metrics_before_*.csv")))
        file.rename(folder / f"metrics_before_{earlier + 1}.csv")
