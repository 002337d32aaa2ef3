"""`fit`, `validate`, `test` and `predict`: LightningCLI with one folder per run."""

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

import datamodules.phrasecut  # noqa: F401 - registers short class names
from clipseg_pl.atomic import write_text
from clipseg_pl.cli.arguments import (
    Parser,
    apply_checkpoint_settings,
    check_trainer,
    flatten,
    one_line,
    parser_options,
    stop,
    unknown_monitor,
)
from clipseg_pl.cli.commands import COMMANDS
from clipseg_pl.convert.checkpoints import read_checkpoint
from clipseg_pl.models import (  # noqa: F401 - registers short class names
    clip_backbone,
    deconv_decoder,
)
from clipseg_pl.models.precision import best_precision
from clipseg_pl.protocols.own_data import OwnDataProtocol
from clipseg_pl.runs.run import CHECKPOINTS, Run
from clipseg_pl.runs.run_folder import claim, experiment_name, find_run_folder, is_restarted
from clipseg_pl.training.callbacks.checkpoint import Best, Last
from clipseg_pl.training.callbacks.ema import WeightEMA  # noqa: F401 - registers a short class name
from clipseg_pl.training.callbacks.examples import Examples
from clipseg_pl.training.callbacks.panels import Panels
from clipseg_pl.training.callbacks.predictions import PhotoMasks, Predictions
from clipseg_pl.training.callbacks.progress import ProgressLines, RunProgressBar
from clipseg_pl.training.callbacks.results import Results, identify, unique_name
from clipseg_pl.training.callbacks.step_seeds import StepSeeds
from clipseg_pl.training.checkpoint_files import AtomicCheckpointIO
from clipseg_pl.training.module import CLIPSegModule
from clipseg_pl.weights.places import find_checkpoint
from datamodules.base import BaseDataModule
from datamodules.photos import PhotosDataModule


class CLIPSegCLI(LightningCLI):
    """LightningCLI with config, checkpoints, metrics, panels and results in one folder per run."""

    def __init__(self, args: list[str] | None = None) -> None:
        """Parse the arguments, build the objects and run the command."""
        self._args = sys.argv[1:] if args is None else args
        super().__init__(
            CLIPSegModule,
            BaseDataModule,
            subclass_mode_data=True,
            parser_class=Parser,
            parser_kwargs=parser_options(COMMANDS),
            save_config_callback=None,
            seed_everything_default=0,
            # lightning's sampler repeats samples in evaluation; our samplers support several ranks
            trainer_defaults={"use_distributed_sampler": False, "num_sanity_val_steps": 1},
            auto_configure_optimizers=False,
            args=args,
        )

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Use `seed_everything` as the seed of the data."""
        parser.link_arguments("seed_everything", "data.init_args.seed", compute_fn=int)

    def _parse_ckpt_path(self) -> None:
        """Resolve `last` and `best`, and merge the checkpoint's model settings into the config."""
        config = self.config[self.config.subcommand]
        self.run_folder = find_run_folder(self.config.subcommand, config)
        last = self.run_folder / CHECKPOINTS / "last.ckpt"
        restarted = self.config.subcommand == "fit" and is_restarted() and last.is_file()
        if restarted:
            rank_zero_only(sys.stderr.write)(f"clipseg_pl: restarted job, resuming from {last}\n")
            config["ckpt_path"] = str(last)
        if config.get("ckpt_path") in ("last", "best"):
            file = self.run_folder / CHECKPOINTS / f"{config['ckpt_path']}.ckpt"
            config["ckpt_path"] = str(file)
        checkpoint, self._stored = config.get("ckpt_path"), None
        if checkpoint:
            self._stored = read_checkpoint(Path(checkpoint))
            if self.config.subcommand != "fit":
                config.model.init_decoder = None  # would be loaded first and then replaced
            if restarted and Run(self._args, self.run_folder, config).is_finished():
                sys.exit(0)  # so that the job's script continues
            step, steps = self._stored["global_step"], config.trainer.max_steps
            if self.config.subcommand == "fit" and step >= steps > 0:
                stop(
                    f"{checkpoint} has already taken {step} of {steps} steps: increase "
                    "--trainer.max_steps to continue training"
                )
        elif self.config.subcommand != "fit" and not config.model.get("init_decoder"):
            stop(
                f"{self.config.subcommand} needs weights: set --ckpt_path to a checkpoint of fit, "
                "or use the published weights with --config experiments/models/rd64_refined.yaml"
            )
        configured = dict(flatten(config.model))
        if self._stored:
            # older checkpoints lack the number of trained blocks
            model = {"unfreeze_blocks": 0, **self._stored["hyper_parameters"]}
            model.pop("_instantiator", None)
            stored = {self.config.subcommand: {"model": model}}
            self.config = self.parser.parse_object(stored, self.config)
        args = self._args if self.config.subcommand == "fit" else ()
        apply_checkpoint_settings(configured, self.config[self.config.subcommand].model, args)

    def before_instantiate_classes(self) -> None:
        """Set defaults that depend on the device, and reject a folder that contains another run."""
        config = self.config[self.subcommand]
        trainer = config.trainer
        check_trainer(trainer, self.subcommand == "fit")
        if trainer.accelerator == "auto" and torch.backends.mps.is_available():
            trainer.accelerator = "cpu"  # the metrics need float64, which MPS lacks
        if trainer.precision is None:
            fit = self.subcommand == "fit"
            trainer.precision = best_precision(trainer.accelerator) if fit else "32-true"
        trainer.default_root_dir = str(self.run_folder)
        for logger in _as_list(trainer.logger):
            if isinstance(logger, Namespace) and not logger.init_args.get("save_dir", "."):
                logger.init_args.save_dir = str(self.run_folder)
        # lightning must not print metrics or collect predictions: our callbacks do
        for option in ("verbose", "return_predictions"):
            if option in config:
                config[option] = False
        data = config.data.get("init_args", {})
        if "photos" in data and data.image_size is None and self._stored:
            data.image_size = self._stored["image_size"]
        if self.subcommand == "fit":
            claim(self.run_folder, config.get("ckpt_path"))
        else:
            trainer.enable_checkpointing = False

    def instantiate_classes(self) -> None:
        """Build all objects and check the image size before anything is written.

        Raises:
            ValueError: if a value in the config is invalid.
        """
        try:
            super().instantiate_classes()
        except (TypeError, RuntimeError, ArithmeticError) as error:  # caused by config values
            raise ValueError(f"{type(error).__name__}: {error}") from error
        size, patch = self.datamodule.image_size, self.model.model.backbone.shape.patch_size
        if size % patch:
            valid = [side for side in (size // patch * patch, -(-size // patch) * patch) if side]
            stop(
                f"image_size {size} is not a multiple of the backbone's patch size {patch}: set "
                f"--data.init_args.image_size {' or '.join(map(str, valid))}, or another "
                f"multiple of {patch}"
            )

    def instantiate_trainer(self, **kwargs: Any) -> Trainer:  # noqa: ANN401 - lightning's signature
        """Add loggers, checkpoints, panels, results and progress to every run."""
        configured = self.config_init[self.subcommand].trainer
        loggers: list[Logger] = []
        if self.subcommand == "fit":  # evaluations write their metrics to results/
            loggers.append(CSVLogger(self.run_folder, name="", version=""))
        loggers += [logger for logger in _as_list(configured.logger) if isinstance(logger, Logger)]
        own = self._own_callbacks() if not configured.fast_dev_run else []
        if configured.enable_progress_bar is not False:
            own.append(RunProgressBar() if sys.stdout.isatty() else ProgressLines())
        callbacks = [*(configured.callbacks or []), *own]
        plugins = [*filter(None, _as_list(configured.plugins)), AtomicCheckpointIO(self._stored)]
        return super().instantiate_trainer(
            logger=loggers, callbacks=callbacks, plugins=plugins, **kwargs
        )

    def _own_callbacks(self) -> list[Callback]:
        assert self.subcommand
        self._dump_config()
        config = self.config[self.subcommand]
        name, panels, weights = experiment_name(config), self.run_folder / "panels", None
        if self.subcommand != "fit":
            given = config.get("ckpt_path") or config.model.init_decoder
            weights = find_checkpoint(given)
            name += f"-{Path(given).stem}"
        identity = identify(self.config_dump, weights, self.datamodule.root)
        name = unique_name(self.run_folder, self.subcommand, name, identity)
        if self.subcommand != "fit":
            panels /= name
        evaluates_own_data = isinstance(self.model.protocol, OwnDataProtocol)
        drawn = evaluates_own_data and self.subcommand in ("validate", "test")
        examples = Examples(self.run_folder, f"{self.subcommand}-{name}") if drawn else None
        results = Results(self.run_folder, name, self.config_dump, identity, examples)
        if self.subcommand == "predict":
            data, masks = self.datamodule, self.run_folder / "predictions" / name
            if isinstance(data, PhotosDataModule):
                return [PhotoMasks(masks, data.files, data.prompt_names, **data.output), results]
            return [Predictions(masks), results]
        callbacks: list[Callback] = [results, Panels(panels), StepSeeds()]
        if examples:
            callbacks.insert(0, examples)  # before the results, which contain its entries
        if self.subcommand == "fit" and config.trainer.enable_checkpointing is not False:
            folder = (self.run_folder / CHECKPOINTS).resolve()
            best = f"val/{self.model.protocol.monitor}"
            callbacks += [  # in this order, so that `last` contains the newest score of `best`
                Best(folder, "best", monitor=best, mode="max", enable_version_counter=False),
                Last(folder / "last.ckpt"),
            ]
        return callbacks

    @rank_zero_only
    def after_predict(self) -> None:
        """Print the skipped photos, and exit with status 1 if there are any."""
        for callback in self.trainer.callbacks:  # type: ignore[attr-defined]
            if isinstance(callback, PhotoMasks) and callback.unreadable:
                stop("\nclipseg_pl: ".join(f"skipped {reason}" for reason in callback.unreadable))

    def _reject_seen(self) -> None:
        """Reject weights that may have been trained on the held-out classes of a benchmark."""
        held_out = self.datamodule.held_out
        config = self.config[self.subcommand]
        weights = config.get("ckpt_path") or config.model.init_decoder
        excluded = (self._stored or {}).get("excluded") or ()
        seen = [name for name in held_out if name not in excluded]
        if seen:
            stop(
                f"{weights} may have been trained on the benchmark's held-out classes "
                f"{', '.join(seen)}: train with a config overlay of experiments/data that excludes "
                "them, or set --data.init_args.allow_seen true"
            )

    before_validate = before_test = before_predict = _reject_seen

    @rank_zero_only
    def before_fit(self) -> None:
        """Write the resolved config to the run's folder."""
        self.run_folder.mkdir(parents=True, exist_ok=True)
        parser, config = self._parser("fit"), self.config["fit"]
        text = parser.dump(config, skip_none=False, skip_link_targets=False)
        write_text(self.run_folder / "config.yaml", text)

    def _run_subcommand(self, subcommand: str) -> None:
        """Run the command, and replace error messages that do not name their cause."""
        try:
            super()._run_subcommand(subcommand)
        except (RuntimeError, MisconfigurationException) as error:
            message = str(error)
            worker_killed = "DataLoader worker (pid" in message
            explanation = message if worker_killed else unknown_monitor(message)
            if not explanation:
                raise
            raise OSError(explanation) from error
        except OSError as error:
            if error.errno is None or error.filename:
                raise
            raise OSError(f"{self.run_folder}: {error.strerror}") from error


def main(args: list[str] | None = None) -> None:
    """Run the command line, and print errors that the user can fix on one line."""
    silence_warnings()
    try:
        CLIPSegCLI(args)
    except (OSError, ValueError, FloatingPointError, MisconfigurationException) as error:
        if os.environ.get("CLIPSEG_TRACE"):
            raise
        message = str(error)
        if isinstance(error, OSError) and error.filename and error.strerror:
            message = f"{error.filename}: {error.strerror}"  # without the error number
        stop(f"{one_line(message)} (set CLIPSEG_TRACE=1 for the traceback)")


def _as_list(value: object) -> list[object]:
    return value if isinstance(value, list) else [value]


def silence_warnings() -> None:
    """Silence warnings about intended behaviour."""
    # pycocotools with numpy 2 emits it once per mask
    warnings.filterwarnings("ignore", ".*__array__ implementation.*", DeprecationWarning)
    for message in (
        ".*isinstance\\(treespec, LeafSpec\\).*",  # lightning uses torch's pytree
        ".*module\\(s\\) in eval mode at the start of training.*",  # frozen backbone
        ".*does not have many workers.*",  # the config sets their number
        ".*smaller than the logging interval.*",
        ".*Checkpoint directory .* exists and is not empty.*",  # checked by `claim`
        ".*your dataloader is not resumable.*",  # the sampler starts at the resumed step
        ".*using a custom batch sampler.*",
        ".*Experiment logs directory .* exists and is not empty.*",
        ".*callbacks used to create the checkpoint need to be provided.*",  # not used in evaluation
        ".*is not supported by the model summary.*",
    ):
        warnings.filterwarnings("ignore", message)
    logging.getLogger("lightning.pytorch.utilities.rank_zero").addFilter(_is_no_tip)


def _is_no_tip(record: logging.LogRecord) -> bool:
    """Return False for lightning's tips about its services."""
    return "Tip:" not in record.getMessage()
