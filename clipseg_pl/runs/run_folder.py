"""The folder of a run, which no other run may write to."""

import os
from pathlib import Path

from jsonargparse import Namespace
from lightning.pytorch.utilities import rank_zero_only

from clipseg_pl.runs.run import CHECKPOINTS


def experiment_name(config: Namespace) -> str:
    """Return the joined file stems of a run's configs, for example `pc_plus+no_visual`."""
    stems = [Path(str(file)).stem for file in config.get("config") or []]
    return "+".join(stems) or "run"


def find_run_folder(command: str, config: Namespace) -> Path:
    """Return the folder of a run.

    It is the first of these folders that applies: `--trainer.default_root_dir`; the run's folder of
    the checkpoint to evaluate; `runs/sweeps/<sweep id>/<run id>` under a W&B agent, because all
    runs of a sweep have the same configs; `runs/<experiment name>`.
    """
    if config.trainer.default_root_dir:
        return Path(config.trainer.default_root_dir)
    checkpoint = config.get("ckpt_path")
    if command != "fit" and checkpoint and Path(checkpoint).parent.name == CHECKPOINTS:
        return Path(checkpoint).parent.parent
    sweep_id, run_id = os.environ.get("WANDB_SWEEP_ID"), os.environ.get("WANDB_RUN_ID")
    if sweep_id and run_id:
        return Path("runs") / "sweeps" / sweep_id / run_id
    return Path("runs") / experiment_name(config)


def is_restarted() -> bool:
    """Return whether SLURM or torchrun has restarted this job with the same command."""
    counts = ("SLURM_RESTART_COUNT", "TORCHELASTIC_RESTART_COUNT")
    return any(int(os.environ.get(count, "0")) > 0 for count in counts)


@rank_zero_only
def claim(folder: Path, checkpoint: str | None) -> None:
    """Check that a folder contains no other run, and prepare it for this run.

    A folder contains a run if it has checkpoints or the results of a finished training. Results of
    evaluations do not count. Unfinished checkpoint files of a killed run are removed. metrics.csv
    is renamed, because lightning's logger deletes it when it starts.

    Args:
        folder: folder of the run.
        checkpoint: checkpoint to resume from, if any.

    Raises:
        FileExistsError: if the folder contains another run.
    """
    used = folder / CHECKPOINTS
    own = Path(checkpoint or "").resolve().parent == used.resolve()
    saved, finished = any(used.glob("[!.]*")), any(folder.glob("results/fit-*.json"))
    if (saved or finished) and not own:
        resume = "resume it with --ckpt_path last, " if saved else ""
        raise FileExistsError(
            f"{folder} already contains a run: {resume}remove it, or set another "
            "--trainer.default_root_dir"
        )
    for unfinished in used.glob(".*.tmp"):  # see `write_whole`
        unfinished.unlink(missing_ok=True)
    file = folder / "metrics.csv"
    if file.exists():
        earlier = len(list(folder.glob("metrics_before_*.csv")))
        file.rename(folder / f"metrics_before_{earlier + 1}.csv")
