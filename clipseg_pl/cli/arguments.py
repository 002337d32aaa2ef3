"""Help texts, argument checks and error messages of the LightningCLI commands."""

import argparse
import difflib
import inspect
import re
import sys
from collections.abc import Iterator, Mapping, Sequence, Set
from typing import Any, NoReturn

from jsonargparse import Namespace
from lightning.pytorch.cli import LightningArgumentParser
from lightning.pytorch.utilities import rank_zero_only

from clipseg_pl.models.backbone import Backbone
from clipseg_pl.models.decoder import Decoder
from clipseg_pl.prompts.visual import VisualPrompt
from clipseg_pl.protocols.base import Protocol
from datamodules.base import BaseDataModule
from datamodules.datasets.prompted import Prompting

# base classes by the config key of their options
_CONFIGURED = {
    "model.backbone.init_args": Backbone,
    "model.decoder.init_args": Decoder,
    "model.protocol.init_args": Protocol,
    "data.init_args": BaseDataModule,
    "data.init_args.prompting": Prompting,
    "data.init_args.prompting.visual_prompt": VisualPrompt,
}
_RATES = ("optimizer.init_args.lr", "min_lr", "backbone_lr")
"""model settings that may be changed when a training is resumed"""
_SIMILAR, _SIMILAR_IN_CLASS = 0.8, 0.6
"""minimum similarity (0 to 1) for suggesting a key: among all keys, and among those of a class"""
_BASE = "--config experiments/pc_plus.yaml"
_OVERLAYS = (
    "Later configs override earlier ones, and options such as --model.decoder.init_args.dim 16 "
    "override all configs. Outputs are written to runs/<names of the configs>."
)
_EXAMPLES = {
    "fit": f"{_BASE} --config experiments/toy.yaml",
    "validate": f"{_BASE} --config experiments/benchmarks/phrasecut_text.yaml --ckpt_path "
    "runs/pc_plus/checkpoints/best.ckpt",
    "test": f"{_BASE} --ckpt_path runs/pc_plus/checkpoints/best.ckpt",
    "predict": f"{_BASE} --ckpt_path runs/pc_plus/checkpoints/best.ckpt",
}


def parser_options(summaries: Mapping[str, str]) -> dict[str, Any]:
    """Return the help text of each command for `LightningCLI(parser_kwargs=...)`."""
    options = {
        command: {
            "usage": f"python -m clipseg_pl {command} {_BASE} [--config OVERLAY]... "
            "[--key value]...",
            "description": f"{summaries[command][0].upper()}{summaries[command][1:]}. {_OVERLAYS}",
            "epilog": f"example: python -m clipseg_pl {command} {example}",
        }
        for command, example in _EXAMPLES.items()
    }
    return {"allow_abbrev": False, "prog": "python -m clipseg_pl", **options}


class Parser(LightningArgumentParser):
    """Argument parser with one-line error messages that suggest similar keys."""

    def parse_args(  # type: ignore[override]
        self,
        args: Sequence[str] | None = None,
        *more: Any,  # noqa: ANN401 - jsonargparse's signature
        **options: Any,  # noqa: ANN401
    ) -> Namespace:
        """Parse arguments, and accept null for keys of a class.

        Jsonargparse passes null to the parser of a class as `None`, which would be read as text.
        """
        if args is not None and getattr(self, "_inner_parser", False):
            args = [re.sub("=None$", "=null", arg) for arg in args]
        return super().parse_args(args, *more, **options)

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        """Print the message on one line and exit with status 2."""
        text = one_line(message)
        if "arguments are required" in text or "Got value: {'init_args'" in text:
            hint = ". Overlays need a base config: put --config experiments/pc_plus.yaml first."
        else:
            hint = suggestion(text, self)
        if not self.exit_on_error:  # jsonargparse still has to try other classes of a union
            raise argparse.ArgumentError(None, f"{text}{hint}") from ex
        sys.stderr.write(f"clipseg_pl: {text}{hint}\n")
        sys.exit(2)


def one_line(message: str) -> str:
    """Reduce an error message to its cause, on one line.

    For a union, jsonargparse lists one error per type; the cause is the first one that is not about
    NoneType. Errors of a data worker contain a traceback, and the cause is its last line.
    """
    if "Original Traceback" in message:
        last = message.rstrip().splitlines()[-1]
        message = re.sub(r"^[\w.]+(Error|Exception): ", "", last)
    message = message.split("Subclass types expect one of")[0]
    message = re.sub(r"Problem with given class_path '[^']*':\s*", "", message)
    causes = re.findall(r"^\s*- (.*)$", message, re.MULTILINE)
    relevant = [cause for cause in causes if "NoneType" not in cause]
    return " ".join((relevant[0] if relevant else message).split()).rstrip(".")


def suggestion(text: str, parser: LightningArgumentParser) -> str:
    """Return a hint for an unknown key: the most similar key, or the keys of the same group.

    Args:
        text: error message that contains the unknown key.
        parser: parser that raised the error.

    Returns:
        Text to append to the message, empty if the message contains no key.
    """
    match = re.search(r"(?:arguments: -*|[Oo]ption '|[Kk]ey ')([\w.]+)", text)
    if not match:
        return ""
    unknown, of_class = match[1], getattr(parser, "_inner_parser", False)
    known = dict.fromkeys(_keys(parser), "") if of_class else _all_keys(parser)
    nearest = max(known, key=lambda key: _similarity(unknown, key), default="")
    if _similarity(unknown, nearest) >= (_SIMILAR_IN_CLASS if of_class else _SIMILAR):
        return f". Did you mean {nearest}{known[nearest]}?"
    if of_class and "." not in unknown:
        others = _class_keys(exclude=known.keys())
        elsewhere = [key for key in others if key.endswith(f".{unknown}")]
        if elsewhere:
            return f". Did you mean {elsewhere[0]}{others[elsewhere[0]]}?"
        options = sorted({key.split(".")[0] for key in known})
        return f"; this class accepts {', '.join(options) or 'no options'}"
    parent = unknown.rpartition(".")[0]
    group = {key[len(parent) + 1 :].split(".")[0] for key in known if key.startswith(f"{parent}.")}
    return f"; {parent} accepts {', '.join(sorted(group))}" if group else ""


def _keys(parser: LightningArgumentParser) -> set[str]:
    dests = {action.dest for action in parser._actions}
    return {dest for dest in dests if dest.rpartition(".")[2] not in ("help", "print_shtab")}


def _all_keys(parser: LightningArgumentParser) -> dict[str, str]:
    """Return the full keys of all commands and of their groups. Values are as in `_class_keys`."""
    parsers = [parser]
    for action in parser._actions:
        if isinstance(action.choices, dict):  # parsers of the commands
            parsers += action.choices.values()
    keys = dict.fromkeys(set().union(*map(_keys, parsers)), "") | _class_keys()
    groups = {key.rsplit(".", depth)[0] for key in keys for depth in range(1, key.count(".") + 1)}
    return dict.fromkeys(groups, "") | keys


def _class_keys(exclude: Set[str] = frozenset()) -> dict[str, str]:
    """Return the full keys of the options of configured classes.

    Args:
        exclude: names of options. Groups that have one of these options are left out.

    Returns:
        For each key, " of <classes>" if only some classes of the group have the option, else "".
    """
    keys: dict[str, str] = {}
    for place, base in _CONFIGURED.items():
        classes: list[type] = base.__subclasses__() or [base]
        options = {cls: set(inspect.signature(cls).parameters) for cls in classes}
        every = sorted(set().union(*options.values()))
        if not exclude.isdisjoint(every):
            continue
        for name in every:
            owners = [cls.__name__ for cls, names in options.items() if name in names]
            some = len(owners) < len(options)
            keys[f"{place}.{name}"] = f" of {', '.join(owners)}" if some else ""
    return keys


def _similarity(unknown: str, key: str) -> float:
    """Return the similarity of a key to an unknown key, 0 to 1.

    It is the highest of three similarities: that of the whole keys, 0.95 times that of their last
    parts, and 0.8 if the last part of `key` is a word in the last part of `unknown`. The unknown
    key itself and its groups have similarity 0.
    """
    if f"{unknown}.".startswith(f"{key}."):
        return 0.0
    (parent, _, name), (group, _, end) = unknown.rpartition("."), key.rpartition(".")
    by_name = difflib.SequenceMatcher(None, name, end).ratio()
    if parent == group:
        whole = by_name  # a common group must not count as similarity
    else:
        whole = difflib.SequenceMatcher(None, unknown, key).ratio()
    return max(whole, 0.95 * by_name, 0.8 * (end in name.split("_")))


def apply_checkpoint_settings(
    configured: Mapping[str, object], model: Namespace, args: Sequence[str]
) -> None:
    """Override configured model settings with those of the checkpoint, and print each change.

    Learning rates set on the command line of `fit` override those of the checkpoint.

    Args:
        configured: model settings of the command line and its configs, by dotted key.
        model: model settings after merging the checkpoint; changed in place.
        args: command line arguments of a resumed training, empty for other commands.
    """
    write = rank_zero_only(sys.stderr.write)
    options = {arg.partition("=")[0].replace(".init_args", "") for arg in args}
    for key, value in configured.items():
        stored = model.get(key)
        if value is None or key not in model or str(value) == str(stored):  # null: model's default
            continue
        if key in _RATES and f"--model.{key}".replace(".init_args", "") in options:
            model[key] = value
            write(
                f"clipseg_pl: resuming with model.{key} = {value}, instead of {stored} in the "
                "checkpoint\n"
            )
        else:
            write(
                f"clipseg_pl: using model.{key} = {stored} of the checkpoint, instead of {value}\n"
            )


def stop(message: str) -> NoReturn:
    """Print a message to stderr and exit with status 1."""
    sys.stderr.write(f"clipseg_pl: {message}\n")
    sys.exit(1)


def flatten(config: object, prefix: str = "") -> Iterator[tuple[str, object]]:
    """Yield the dotted keys and values of a nested config."""
    for key, value in config.items() if isinstance(config, (Namespace, dict)) else ():
        if isinstance(value, (Namespace, dict)):
            yield from flatten(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


_MINIMA = {
    "max_epochs": 1,
    "accumulate_grad_batches": 1,
    "check_val_every_n_epoch": 1,
    "log_every_n_steps": 0,
    "gradient_clip_val": 0,
    "num_sanity_val_steps": -1,
}
_MAX_SUGGESTED = 3  # metrics in an error message


def check_trainer(trainer: Namespace, fit: bool) -> None:
    """Exit with a message if a trainer setting is out of range.

    Args:
        trainer: settings of the trainer.
        fit: whether the command is `fit`. Other commands ignore `max_steps` and `max_epochs`.
    """
    for key, least in _MINIMA.items():
        value = trainer.get(key)
        if value is not None and value < least and (fit or not key.startswith("max_")):
            stop(f"--trainer.{key} must be at least {least}, got {value}")
    steps = trainer.get("max_steps", 1)
    if fit and steps < 1 and not (steps == -1 and trainer.get("max_epochs")):
        stop(
            "--trainer.max_steps must be at least 1, or -1 if --trainer.max_epochs is set, got "
            f"{steps}"
        )
    if trainer.val_check_interval == 0:
        stop(
            "--trainer.val_check_interval must be greater than 0; to disable validation, set "
            "--trainer.limit_val_batches 0"
        )
    if not re.fullmatch(r"auto|-1|[1-9]\d*|\d+(, ?\d*)+|\[\d+(, ?\d+)*\]", str(trainer.devices)):
        stop(
            "--trainer.devices must be a number of at least 1, a list such as [0,1], -1 for all "
            f"devices, or auto, got {trainer.devices}"
        )


def unknown_monitor(message: str) -> str:
    """Rewrite lightning's error about a callback that monitors an unknown metric.

    Returns:
        The new message, or an empty string if lightning's message is about something else.
    """
    match = re.search(r"(?:conditioned on metric `|\(monitor=')([^`']+)[`']", message)
    if not match:
        return ""
    metric = match[1]
    known = set(re.findall(r"[`']([\w@.]+/[\w@./]+)[`']", message[match.end() :]))
    nearest = difflib.get_close_matches(metric, known - {metric}, _MAX_SUGGESTED, cutoff=0)
    hint = f". Most similar: {', '.join(nearest)}" if nearest else ""
    return f"a callback monitors {metric}, which is not a logged metric{hint}"
