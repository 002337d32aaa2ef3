"""The values of a command line, and what it says when it refuses one."""

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

# where configs set options of a class and its subclasses
_CONFIGURED = {
    "model.backbone.init_args": Backbone,
    "model.decoder.init_args": Decoder,
    "model.protocol.init_args": Protocol,
    "data.init_args": BaseDataModule,
    "data.init_args.prompting": Prompting,
    "data.init_args.prompting.visual_prompt": VisualPrompt,
}
_RATES = ("optimizer.init_args.lr", "min_lr")
"""settings of the model that training may change when it goes on"""
_ALIKE, _ALIKE_IN_CLASS = 0.8, 0.6
"""likeness (0 to 1) from which a key is suggested for a refused one, of all keys or of a class"""
_BASE = "--config experiments/pc_plus.yaml"
_OVERLAYS = (
    "A run is its configs, laid over one another; any key can be set behind them, as in "
    "--model.decoder.init_args.dim 16. What a run leaves lies in runs/<names of the configs>."
)
_EXAMPLES = {
    "fit": f"{_BASE} --config experiments/toy.yaml",
    "validate": f"{_BASE} --config experiments/benchmarks/phrasecut_text.yaml --ckpt_path "
    "runs/pc_plus/checkpoints/best.ckpt",
    "test": f"{_BASE} --ckpt_path runs/pc_plus/checkpoints/best.ckpt",
    "predict": f"{_BASE} --ckpt_path runs/pc_plus/checkpoints/best.ckpt",
}


def parser_options(meanings: Mapping[str, str]) -> dict[str, Any]:
    """Help of each verb, for `LightningCLI(parser_kwargs=...)`; lightning's own says little."""
    options = {
        verb: {
            "usage": f"python -m clipseg_pl {verb} {_BASE} [--config overlay]... [--key value]...",
            "description": f"{meanings[verb].capitalize()}. {_OVERLAYS}",
            "epilog": f"example: python -m clipseg_pl {verb} {example}",
        }
        for verb, example in _EXAMPLES.items()
    }
    return {"allow_abbrev": False, "prog": "python -m clipseg_pl", **options}


class Parser(LightningArgumentParser):
    """Says in one line what is wrong, and which key was probably meant."""

    def parse_args(  # type: ignore[override]
        self,
        args: Sequence[str] | None = None,
        *more: Any,  # noqa: ANN401 - jsonargparse's signature
        **options: Any,  # noqa: ANN401
    ) -> Namespace:
        """Read null for keys of a class too, to whose own parser jsonargparse hands it as None."""
        if args is not None and getattr(self, "_inner_parser", False):
            args = [re.sub("=None$", "=null", arg) for arg in args]
        return super().parse_args(args, *more, **options)

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        """Print the message on one line and exit with status 2."""
        text = one_line(message)
        if "arguments are required" in text or "Got value: {'init_args'" in text:
            hint = ". Overlays are laid over a base: put --config experiments/pc_plus.yaml first."
        else:
            hint = suggestion(text, self)
        if not self.exit_on_error:  # of one class; the others of a union are still to be tried
            raise argparse.ArgumentError(None, f"{text}{hint}") from ex
        sys.stderr.write(f"clipseg_pl: {text}{hint}\n")
        sys.exit(2)


def one_line(message: str) -> str:
    """Bring an explanation down to its cause, on one line.

    Where jsonargparse lists why each member of a union was refused, the cause is the first that
    is not "None was expected". What a loader's worker raises comes with its trace, the cause last.
    """
    if "Original Traceback" in message:
        last = message.rstrip().splitlines()[-1]
        message = re.sub(r"^[\w.]+(Error|Exception): ", "", last)
    message = message.split("Subclass types expect one of")[0]
    message = re.sub(r"Problem with given class_path '[^']*':\s*", "", message)
    causes = re.findall(r"^\s*- (.*)$", message, re.MULTILINE)
    real = [cause for cause in causes if "NoneType" not in cause]
    return " ".join((real[0] if real else message).split()).rstrip(".")


def suggestion(text: str, parser: LightningArgumentParser) -> str:
    """The valid key nearest to a refused one; where none is near, those beside it."""
    refused = re.search(r"(?:arguments: -*|[Oo]ption '|[Kk]ey ')([\w.]+)", text)
    if not refused:
        return ""
    given, of_class = refused[1], getattr(parser, "_inner_parser", False)
    known = dict.fromkeys(_keys(parser), "") if of_class else _all_keys(parser)
    nearest = max(known, key=lambda key: _likeness(given, key), default="")
    if _likeness(given, nearest) >= (_ALIKE_IN_CLASS if of_class else _ALIKE):
        return f". Did you mean {nearest}{known[nearest]}?"
    if of_class and "." not in given:
        others = _class_keys(besides=known.keys())
        elsewhere = [key for key in others if key.endswith(f".{given}")]
        if elsewhere:
            return f". Did you mean {elsewhere[0]}{others[elsewhere[0]]}?"
        taken = sorted({key.split(".")[0] for key in known})
        return f"; this class takes {', '.join(taken) or 'no options'}"
    parent = given.rpartition(".")[0]
    beside = {key[len(parent) + 1 :].split(".")[0] for key in known if key.startswith(f"{parent}.")}
    return f"; {parent} takes {', '.join(sorted(beside))}" if beside else ""


def _keys(parser: LightningArgumentParser) -> set[str]:
    dests = {action.dest for action in parser._actions}
    return {dest for dest in dests if dest.rpartition(".")[2] not in ("help", "print_shtab")}


def _all_keys(parser: LightningArgumentParser) -> dict[str, str]:
    """All keys of all verbs, in full, and the groups that they lie in; see `_class_keys`."""
    parsers = [parser]
    for action in parser._actions:
        if isinstance(action.choices, dict):  # a verb's own parser
            parsers += action.choices.values()
    keys = dict.fromkeys(set().union(*map(_keys, parsers)), "") | _class_keys()
    groups = {key.rsplit(".", depth)[0] for key in keys for depth in range(1, key.count(".") + 1)}
    return dict.fromkeys(groups, "") | keys


def _class_keys(besides: Set[str] = frozenset()) -> dict[str, str]:
    """Keys of configured classes, with " of <classes>" where others in their place lack them.

    Args:
        besides: keys of a class whose place is left out.
    """
    keys: dict[str, str] = {}
    for place, base in _CONFIGURED.items():
        parts: list[type] = base.__subclasses__() or [base]
        takes = {part: set(inspect.signature(part).parameters) for part in parts}
        every = sorted(set().union(*takes.values()))
        if not besides.isdisjoint(every):
            continue
        for name in every:
            owners = [part.__name__ for part, names in takes.items() if name in names]
            some = len(owners) < len(takes)
            keys[f"{place}.{name}"] = f" of {', '.join(owners)}" if some else ""
    return keys


def _likeness(given: str, key: str) -> float:
    """0 to 1, by the whole key or, a little less, by its last name or a word of that alone.

    The key itself and the groups it lies in are not alike: they were refused.
    """
    if f"{given}.".startswith(f"{key}."):
        return 0.0
    (parent, _, name), (group, _, end) = given.rpartition("."), key.rpartition(".")
    by_name = difflib.SequenceMatcher(None, name, end).ratio()
    if parent == group:
        whole = by_name  # what they share says nothing
    else:
        whole = difflib.SequenceMatcher(None, given, key).ratio()
    return max(whole, 0.95 * by_name, 0.8 * (end in name.split("_")))


def settle(given: Mapping[str, object], model: Namespace, args: Sequence[str]) -> None:
    """Let the model's settings in a checkpoint override the given ones, and print each.

    Learning rates typed on the command line override those of the checkpoint.

    Args:
        given: keys and values of the model on the command line and in its configs.
        model: what the checkpoint has made of them.
        args: options that train on.
    """
    say = rank_zero_only(sys.stderr.write)
    typed = {arg.partition("=")[0].replace(".init_args", "") for arg in args}
    for key, value in given.items():
        taken = model.get(key)
        if value is None or key not in model or str(value) == str(taken):  # null: up to the model
            continue
        if key in _RATES and f"--model.{key}".replace(".init_args", "") in typed:
            model[key] = value
            say(f"clipseg_pl: training goes on with model.{key} = {value}, which was {taken}\n")
        else:
            say(
                f"clipseg_pl: the checkpoint was trained with model.{key} = {taken}, which "
                f"replaces {value}\n"
            )


def stop(message: str) -> NoReturn:
    """Say it on one line and exit with status 1."""
    sys.stderr.write(f"clipseg_pl: {message}\n")
    sys.exit(1)


def leaves(config: object, prefix: str = "") -> Iterator[tuple[str, object]]:
    """Dotted keys and values of a config, whatever it is nested in."""
    for key, value in config.items() if isinstance(config, (Namespace, dict)) else ():
        if isinstance(value, (Namespace, dict)):
            yield from leaves(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


_LEAST = {
    "max_steps": 1,
    "accumulate_grad_batches": 1,
    "check_val_every_n_epoch": 1,
    "log_every_n_steps": 0,
    "gradient_clip_val": 0,
    "num_sanity_val_steps": -1,
}
_NAMED = 3  # metrics in an error


def check_trainer(trainer: Namespace, fit: bool) -> None:
    """Stop at a number out of range, naming option and value.

    Args:
        trainer: its settings.
        fit: whether it is going to train; nothing else counts steps.
    """
    for key, least in _LEAST.items():
        value = trainer.get(key)
        if value is not None and value < least and (fit or key != "max_steps"):
            stop(f"set --trainer.{key} to at least {least}, not {value}")
    if trainer.val_check_interval == 0:
        stop(
            "set --trainer.val_check_interval to more than 0; for no validation, set "
            "--trainer.limit_val_batches 0"
        )
    if not re.fullmatch(r"auto|-1|[1-9]\d*|\d+(, ?\d*)+|\[\d+(, ?\d+)*\]", str(trainer.devices)):
        stop(
            "set --trainer.devices to a number of at least 1, a list such as [0,1], -1 for all "
            f"or auto, not {trainer.devices}"
        )


def unknown_monitor(message: str) -> str:
    """Explain what lightning says of a callback whose metric does not exist; empty for the rest."""
    found = re.search(r"(?:conditioned on metric `|\(monitor=')([^`']+)[`']", message)
    if not found:
        return ""
    known = set(re.findall(r"[`']([\w@.]+/[\w@./]+)[`']", message[found.end() :]))
    nearest = difflib.get_close_matches(found[1], known - {found[1]}, _NAMED, cutoff=0)
    hint = f"; nearest: {', '.join(nearest)}" if nearest else ""
    return f"a callback monitors {found[1]}, which is not measured{hint}"
