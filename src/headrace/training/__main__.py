"""`torchrun -m headrace.training JOB.json`: one process of a training run."""

import sys
from pathlib import Path

import torch.distributed as dist

from headrace.errors import ConfigError, HeadraceError
from headrace.training.job import read_job, run_job


def main(arguments: list[str]) -> int:
    """Run the job a file describes; the exit code is 2 for a mistake in it and 1 for a failure."""
    try:
        if len(arguments) != 1:
            raise ConfigError(f"{len(arguments)} arguments were given, and one is needed. Give the path of a job.")
        run_job(read_job(Path(arguments[0])))
    except HeadraceError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    if dist.is_initialized():
        dist.destroy_process_group()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
