"""The `headrace` command."""

import sys
from collections.abc import Sequence


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line and exit: 0 done, 2 a mistake of the user's, 1 a failure, 130 interrupted."""
    from headrace.cli.app import run_app

    sys.exit(run_app(list(sys.argv[1:] if arguments is None else arguments)))
