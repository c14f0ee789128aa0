"""What headrace raises on purpose.

Every message is one line that gives the value, the rule it broke and the next move. A mistake of the
user's exits with 2, a failure of the world around with 1; anything else that escapes is a bug of ours.
"""

import re

CREDENTIALS = re.compile(r"(?<=://)[^\s'\"]*@")


def shown(text: str) -> str:
    """`text` as it may be shown: one line, and no user or password within its addresses."""
    return CREDENTIALS.sub("***@", " ".join(text.splitlines()))


class HeadraceError(Exception):
    """Base of everything raised on purpose; `exit_code` is what a command ends with."""

    exit_code = 1

    def __init__(self, message: str = "") -> None:
        super().__init__(shown(message))


class ConfigError(HeadraceError):
    """A name, key or value that cannot mean anything here: an unknown recipe, key, alias or size."""

    exit_code = 2


class DataError(HeadraceError):
    """A corpus or task file that cannot be read as what it claims to be."""

    exit_code = 2


class MismatchError(HeadraceError):
    """Two sound things that do not belong together, such as shards and another tokenizer."""

    exit_code = 2


class AuthorityError(HeadraceError):
    """Something that this user may not do, such as approving without being an approver."""

    exit_code = 2


class IntegrityError(HeadraceError):
    """A stored artifact that is missing, short or altered: its bytes are not the ones recorded."""


class UnavailableError(HeadraceError):
    """A service, bucket or port that does not answer or cannot be had."""


class TrainingError(HeadraceError):
    """A run that cannot continue, such as a loss that is no longer finite."""


class PipelineError(HeadraceError):
    """A pipeline that its orchestrator gave up, outside every one of its steps."""


class Interrupted(HeadraceError):
    """Work that was told to stop and has saved what it had; the same call goes on from there."""

    exit_code = 143  # as of a process that SIGTERM has ended
