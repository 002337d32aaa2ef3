"""`fit`, `validate`, `test` and `predict`: LightningCLI, with one folder for each run."""

import logging
import os
import sys
import warnings
from pathlib import Path
from typing import Any

import torch
from jsonargparse import Namespace
from lightning import Trainer
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI
from lightning.pytorch.loggers import CSVLogger, Logger
from lightning.pytorch.utilities import rank_zero_only

import datamodules.phrasecut  # noqa: F401 - so that short names resolve
from clipseg_pl.atomic import write_text
from clipseg_pl.cli.arguments import (
    Parser,
    check_trainer,
    leaves,
    one_line,
    parser_options,
    settle,
    stop,
    unknown_monitor,
)
from clipseg_pl.cli.commands import VERBS
from clipseg_pl.convert.checkpoints import read_checkpoint
from clipseg_pl.models import (  # noqa: F401 - so that short names resolve
    clip_backbone,
    deconv_decoder,
)
from clipseg_pl.models.precision import best_precision
from clipseg_pl.runs.run import CHECKPOINTS
from clipseg_pl.runs.run_folder import claim, experiment_name, find_run_folder, started_again
from clipseg_pl.training.callbacks.checkpoint import Best, Last
from clipseg_pl.training.callbacks.panels import Panels
from clipseg_pl.training.callbacks.predictions import PhotoMasks, Predictions
from clipseg_pl.training.callbacks.progress import ProgressLines, RunProgressBar
from clipseg_pl.training.callbacks.results import Results, identify, own_name
from clipseg_pl.training.callbacks.step_seeds import StepSeeds
from clipseg_pl.training.checkpoint_files import WholeCheckpoints
from clipseg_pl.training.module import CLIPSegModule
from datamodules.base import BaseDataModule
from datamodules.photos import PhotosDataModule


class CLIPSegCLI(LightningCLI):
    """One run, one folder: config, checkpoints, metrics.csv, panels and results lie together."""

    def __init__(self, args: list[str] | None = None) -> None:
        """Parse, build and run."""
        self._typed = sys.argv[1:] if args is None else args
        super().__init__(
            CLIPSegModule,
            BaseDataModule,
            subclass_mode_data=True,
            parser_class=Parser,
            parser_kwargs=parser_options(VERBS),
            save_config_callback=None,
            seed_everything_default=0,
            # lightning's sampler repeats samples in evaluation; ours are made for several ranks
            trainer_defaults={"use_distributed_sampler": False, "num_sanity_val_steps": 1},
            auto_configure_optimizers=False,
            args=args,
        )

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Seed the data as everything else is."""
        parser.link_arguments("seed_everything", "data.init_args.seed", compute_fn=int)

    def _parse_ckpt_path(self) -> None:
        """Find `last` and `best`, let the checkpoint say what was trained, and say so."""
        config = self.config[self.config.subcommand]
        self.run_folder = find_run_folder(self.config.subcommand, config)
        last = self.run_folder / CHECKPOINTS / "last.ckpt"
        again = self.config.subcommand == "fit" and started_again() and last.is_file()
        if again:
            rank_zero_only(sys.stderr.write)(f"clipseg_pl: started again, from {last}\n")
            config["ckpt_path"] = str(last)
        if config.get("ckpt_path") in ("last", "best"):
            file = self.run_folder / CHECKPOINTS / f"{config['ckpt_path']}.ckpt"
            config["ckpt_path"] = str(file)
        checkpoint, self._stored = config.get("ckpt_path"), None
        if checkpoint:
            self._stored = read_checkpoint(Path(checkpoint))
            taken = self._stored["global_step"]
            if self.config.subcommand == "fit" and taken >= config.trainer.max_steps > 0:
                if again:  # nothing is left to do: what follows in the job's script may run
                    sys.exit(0)
                stop(
                    f"{checkpoint} has taken {taken} of {config.trainer.max_steps} steps: to go "
                    "on, set --trainer.max_steps to more"
                )
        elif self.config.subcommand != "fit" and not config.model.get("init_decoder"):
            stop(
                f"{self.config.subcommand} needs weights: --ckpt_path <a checkpoint of fit>, or "
                "--model.init_decoder <a published decoder>"
            )
        before = dict(leaves(config.model))
        if self._stored:
            model = dict(self._stored["hyper_parameters"])
            model.pop("_instantiator", None)
            stored = {self.config.subcommand: {"model": model}} if model else {}
            self.config = self.parser.parse_object(stored, self.config)
        typed = self._typed if self.config.subcommand == "fit" else ()
        settle(before, self.config[self.config.subcommand].model, typed)

    def before_instantiate_classes(self) -> None:
        """Settle what depends on the machine, and refuse to mix two runs in one folder."""
        config = self.config[self.subcommand]
        trainer = config.trainer
        check_trainer(trainer, self.subcommand == "fit")
        if trainer.accelerator == "auto" and torch.backends.mps.is_available():
            trainer.accelerator = "cpu"  # the metrics' exact sums need float64, which MPS lacks
        if trainer.precision is None:
            fit = self.subcommand == "fit"
            trainer.precision = best_precision(trainer.accelerator) if fit else "32-true"
        trainer.default_root_dir = str(self.run_folder)
        for logger in _as_list(trainer.logger):
            if isinstance(logger, Namespace) and logger.init_args.get("save_dir", "") is None:
                logger.init_args.save_dir = str(self.run_folder)
        for option in ("verbose", "return_predictions"):  # Results prints, Predictions writes
            if option in config:
                config[option] = False
        given = config.data.get("init_args", {})
        if "photos" in given and given.image_size is None and self._stored:
            given.image_size = self._stored["image_size"]
        if self.subcommand == "fit":
            claim(self.run_folder, config.get("ckpt_path"))
        else:
            trainer.enable_checkpointing = False

    def instantiate_classes(self) -> None:
        """Refuse what cannot be built, and images that the backbone cannot take, before writing."""
        try:
            super().instantiate_classes()
        except (TypeError, RuntimeError, ArithmeticError) as error:  # of values in the config
            raise ValueError(f"{type(error).__name__}: {error}") from error
        size, patch = self.datamodule.image_size, self.model.model.backbone.shape.patch_size
        if size % patch:
            fitting = [side for side in (size // patch * patch, -(-size // patch) * patch) if side]
            stop(
                f"images of {size} pixels are not whole patches of {patch}, the backbone's: set "
                f"--data.init_args.image_size {' or '.join(map(str, fitting))}, or other "
                f"multiples of {patch}"
            )

    def instantiate_trainer(self, **kwargs: Any) -> Trainer:  # noqa: ANN401 - lightning's signature
        """Add what every run has: loggers, checkpoints, panels, results, progress."""
        given = self.config_init[self.subcommand].trainer
        loggers: list[Logger] = []
        if self.subcommand == "fit":  # evaluations leave their numbers in results/
            loggers.append(CSVLogger(self.run_folder, name="", version=""))
        loggers += [logger for logger in _as_list(given.logger) if isinstance(logger, Logger)]
        own = self._own_callbacks() if not given.fast_dev_run else []
        if given.enable_progress_bar is not False:
            own.append(RunProgressBar() if sys.stdout.isatty() else ProgressLines())
        callbacks = [*(given.callbacks or []), *own]
        plugins = [*filter(None, _as_list(given.plugins)), WholeCheckpoints(self._stored)]
        return super().instantiate_trainer(
            logger=loggers, callbacks=callbacks, plugins=plugins, **kwargs
        )

    def _own_callbacks(self) -> list[Callback]:
        assert self.subcommand
        self._dump_config()
        config = self.config[self.subcommand]
        name, panels, weights = experiment_name(config), self.run_folder / "panels", None
        if self.subcommand != "fit":
            weights = Path(config.get("ckpt_path") or config.model.init_decoder).expanduser()
            name += f"-{weights.stem}"
        identity = identify(self.config_dump, weights, self.datamodule.root)
        name = own_name(self.run_folder, self.subcommand, name, identity)
        if self.subcommand != "fit":
            panels /= name
        results = Results(self.run_folder, name, self.config_dump, identity)
        if self.subcommand == "predict":
            data, masks = self.datamodule, self.run_folder / "predictions" / name
            if isinstance(data, PhotosDataModule):
                return [PhotoMasks(masks, data.files, data.prompt_names, **data.output), results]
            return [Predictions(masks), results]
        callbacks: list[Callback] = [results, Panels(panels), StepSeeds()]
        if self.subcommand == "fit" and config.trainer.enable_checkpointing is not False:
            folder = (self.run_folder / CHECKPOINTS).resolve()
            best = f"val/{self.model.protocol.monitor}"
            callbacks += [  # in this order, so that `last` knows of the newest `best`
                Best(folder, "best", monitor=best, mode="max", enable_version_counter=False),
                Last(folder / "last.ckpt"),
            ]
        return callbacks

    @rank_zero_only
    def after_predict(self) -> None:
        """Name the photos that were skipped."""
        for callback in self.trainer.callbacks:  # type: ignore[attr-defined]
            if isinstance(callback, PhotoMasks) and callback.unreadable:
                stop("\nclipseg_pl: ".join(f"skipped {why}" for why in callback.unreadable))

    def _refuse_seen(self) -> None:
        """Refuse weights that were trained on what a benchmark holds out, or may have been."""
        held_out = self.datamodule.held_out
        config = self.config[self.subcommand]
        weights = config.get("ckpt_path") or config.model.init_decoder
        excluded = (self._stored or {}).get("excluded") or ()
        seen = [name for name in held_out if name not in excluded]
        if seen:
            stop(
                f"{weights} was not trained without "
                f"{', '.join(seen)}, which the benchmark holds out: train with an overlay of "
                "experiments/data that leaves them out, or set --data.init_args.allow_seen true"
            )

    before_validate = before_test = before_predict = _refuse_seen

    @rank_zero_only
    def before_fit(self) -> None:
        """Write the resolved config into the run's folder."""
        self.run_folder.mkdir(parents=True, exist_ok=True)
        parser, config = self._parser("fit"), self.config["fit"]
        text = parser.dump(config, skip_none=False, skip_link_targets=False)
        write_text(self.run_folder / "config.yaml", text)

    def _run_subcommand(self, subcommand: str) -> None:
        """Say where something went wrong, where the error itself does not."""
        try:
            super()._run_subcommand(subcommand)
        except (RuntimeError, MisconfigurationException) as error:
            said = str(error)  # torch names a data worker that was killed
            explained = said if "DataLoader worker (pid" in said else unknown_monitor(said)
            if not explained:
                raise
            raise OSError(explained) from error
        except OSError as error:
            if error.errno is None or error.filename:
                raise
            raise OSError(f"{self.run_folder}: {error.strerror}") from error


def main(args: list[str] | None = None) -> None:
    """Run the command line; errors that a user can mend are one line, not a trace."""
    quieten()
    try:
        CLIPSegCLI(args)
    except (OSError, ValueError, FloatingPointError, MisconfigurationException) as error:
        if os.environ.get("CLIPSEG_TRACE"):
            raise
        message = str(error)
        if isinstance(error, OSError) and error.filename and error.strerror:
            message = f"{error.filename}: {error.strerror}"  # without the number of the error
        stop(f"{one_line(message)} (set CLIPSEG_TRACE=1 for the trace)")


def _as_list(given: object) -> list[object]:
    return given if isinstance(given, list) else [given]


def quieten() -> None:
    """Silence what lightning says about things that are as they should be."""
    # pycocotools with numpy 2, at every mask
    warnings.filterwarnings("ignore", ".*__array__ implementation.*", DeprecationWarning)
    for message in (
        ".*isinstance\\(treespec, LeafSpec\\).*",  # lightning's own use of torch's pytree
        ".*module\\(s\\) in eval mode at the start of training.*",  # the frozen backbone
        ".*does not have many workers.*",  # a choice of the config
        ".*smaller than the logging interval.*",
        ".*Checkpoint directory .* exists and is not empty.*",  # one run, one folder
        ".*your dataloader is not resumable.*",  # its sampler starts at the step reached
        ".*using a custom batch sampler.*",
        ".*Experiment logs directory .* exists and is not empty.*",
        ".*callbacks used to create the checkpoint need to be provided.*",  # evaluation needs none
        ".*is not supported by the model summary.*",
    ):
        warnings.filterwarnings("ignore", message)
    advice = logging.getLogger("lightning.pytorch.utilities.rank_zero")
    advice.addFilter(_is_no_tip)


def _is_no_tip(record: logging.LogRecord) -> bool:
    """False for what lightning says of its services."""
    return "Tip:" not in record.getMessage()
