"""`python -m clipseg_pl <verb>`."""

import sys
from importlib import import_module

from clipseg_pl.cli.commands import VERBS

_LIGHTNING = ("fit", "validate", "test", "predict")


def main() -> None:
    """Run a verb; what it needs is imported only then, so that help is quick."""
    args = sys.argv[1:]
    if not args or args[0] in ("-h", "--help"):
        _print_help()
    elif args[0] in _LIGHTNING:
        import_module("clipseg_pl.cli.main").main()
    elif args[0] in VERBS:
        import_module(f"clipseg_pl.cli.commands.{args[0]}").main(args[1:])
    else:
        sys.exit(f"clipseg_pl: no verb {args[0]!r}; there are {', '.join(VERBS)}")


def _print_help() -> None:
    print("usage: python -m clipseg_pl <verb> [options]\n\nverbs:")
    for verb, meaning in VERBS.items():
        print(f"  {verb:10} {meaning}")
    print(
        "\n`python -m clipseg_pl <verb> --help` explains one. To train:\n"
        "  python -m clipseg_pl fit --config experiments/pc_plus.yaml --config experiments/toy.yaml"
    )


if __name__ == "__main__":
    main()
