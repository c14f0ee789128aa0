"""`python -m benchmarks [GROUP] [--only NAME] [--rounds N] [--sizes 100MB,5GB] [--json FILE] [--save]`."""

import argparse
import sys
from pathlib import Path

from benchmarks import groups
from benchmarks.machine import describe_machine
from benchmarks.options import Options, parse_size
from benchmarks.tables import Table, save


def main(arguments: list[str]) -> int:
    """Run a group of benchmarks, or list all of them.

    Args:
        arguments: The command line, without the program's name.

    Returns:
        The exit status.
    """
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("group", nargs="?", choices=groups.GROUPS)
    parser.add_argument("--only", default="", help="one benchmark of the group, by the name that is listed")
    parser.add_argument("--rounds", type=int, default=3, help="fresh processes of each side, alternated")
    parser.add_argument("--text", default="200MB", help="text that the fast sides encode")
    parser.add_argument("--peer-text", default="100MB", help="text that slow peers encode")
    parser.add_argument("--sizes", default="100MB,300MB,1GB", help="texts over which memory and time are followed")
    parser.add_argument("--json", type=Path, help="where the numbers go")
    parser.add_argument("--save", action="store_true", help="keep numbers and tables under benchmarks/results")
    given = parser.parse_args(arguments)
    if given.group is None:
        for group in groups.GROUPS:
            print(f"{group}: {', '.join(groups.names(group))}")
        return 0
    if given.only and given.only not in (known := groups.names(given.group)):
        parser.error(f"--only={given.only} is no benchmark of {given.group}. Known: {', '.join(known)}.")
    options = Options(
        rounds=given.rounds,
        text_bytes=parse_size(given.text),
        peer_text_bytes=parse_size(given.peer_text),
        sizes=tuple(map(parse_size, given.sizes.split(","))),
    )
    return run(given.group, given.only, options, given.json, given.save)


def run(group: str, only: str, options: Options, json_file: Path | None, keep: bool) -> int:
    """Print the tables of a group as they are made, and keep them with their numbers where that is asked for.

    Args:
        group: One of `groups.GROUPS`.
        only: One benchmark of it; all where empty.
        options: How much each does.
        json_file: Where the numbers go, with the tables as Markdown beside them.
        keep: Whether both go under `benchmarks/results` too, by group and date.

    Returns:
        The exit status.
    """
    machine, tables = describe_machine(), list[Table]()
    for table in groups.run(group, options, only):
        tables.append(table)
        print(table.to_markdown(), flush=True)
    if json_file is not None:
        save(tables, machine, json_file)
    if keep:
        name = "-".join(part for part in (group, only, machine["date"]) if part)
        save(tables, machine, Path(__file__).parent / "results" / f"{name}.json")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
