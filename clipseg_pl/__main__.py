"""Command line entry point: `python -m clipseg_pl <command>`."""

import sys
from importlib import import_module

from clipseg_pl import threads
from clipseg_pl.cli.commands import COMMANDS

_LIGHTNING = ("fit", "validate", "test", "predict")
_WITHOUT_MODEL = ("sweep", "tables", "toy")  # the first two start other commands


def main() -> None:
    """Run a command. Its imports are deferred so that the overview prints quickly."""
    args = sys.argv[1:]
    if args and args[0] in COMMANDS.keys() - _WITHOUT_MODEL and not _asks_for_help(args):
        threads.configure(verbose=args[0] in _LIGHTNING)  # before torch is imported
    if not args or args[0] in ("-h", "--help"):
        _print_help()
    elif args[0] in _LIGHTNING:
        import_module("clipseg_pl.cli.main").main()
    elif args[0] in COMMANDS:
        import_module(f"clipseg_pl.cli.commands.{args[0]}").main(args[1:])
    else:
        sys.exit(f"clipseg_pl: no command {args[0]!r}. Available commands: {', '.join(COMMANDS)}")


def _asks_for_help(args: list[str]) -> bool:
    """Return whether an argument is -h, --help or an option such as --data.help."""
    options = [arg.partition("=")[0] for arg in args if arg.startswith("-")]
    return any(option == "-h" or option.endswith("help") for option in options)


def _print_help() -> None:
    print("usage: python -m clipseg_pl <command> [options]\n\ncommands:")
    for command, summary in COMMANDS.items():
        print(f"  {command:10} {summary}")
    print(
        "\nRun `python -m clipseg_pl <command> --help` for the options of a command.\n\n"
        "example: train on the small generated datasets of the toy world\n"
        "  python -m clipseg_pl fit --config experiments/pc_plus.yaml --config experiments/toy.yaml"
    )


if __name__ == "__main__":
    main()
