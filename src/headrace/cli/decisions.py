"""What a person decides about a registered model: promote, approve, reject, take back."""

from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from headrace.errors import ConfigError

if TYPE_CHECKING:
    from headrace.artifacts import ModelVersion

Waiting = Annotated[str, typer.Argument(help="NAME, or NAME/NUMBER to mean that version and no other.")]
Because = Annotated[str, typer.Option(help="Why; kept in the audit trail.")]


def promote(
    reference: Annotated[str, typer.Argument(help="NAME/NUMBER of a version, or NAME with the options below.")],
    checkpoint: Annotated[str, typer.Option(help="A checkpoint to register: its directory or gs:// prefix.")] = "",
    verdict: Annotated[str, typer.Option(help="The verdict that allows it, likewise.")] = "",
    reason: Because = "",
) -> None:
    """Promote a checkpoint on its verdict, or a registered version again on its own."""
    from headrace import registry

    if bool(checkpoint) != bool(verdict):
        raise ConfigError("A checkpoint is promoted on its verdict. Give both --checkpoint and --verdict, or neither.")
    made = _register(reference, checkpoint, verdict, reason) if checkpoint else registry.reinstate(reference, reason)
    waits = "" if made.alias == registry.CHAMPION else "; it waits for `headrace models approve`"
    _say(f"{made.name} version {made.version} is {made.alias}{waits}.")


def _register(name: str, checkpoint: str, verdict: str, reason: str) -> "ModelVersion":
    from headrace import registry
    from headrace.tracking import task

    with task({"model": name}) as run:
        return registry.promote(name, checkpoint, verdict, run_id=run.run_id, reason=reason)


def approve(reference: Waiting, reason: Because = "") -> None:
    """Make the challenger champion; for those whom its policy names as approvers."""
    from headrace import registry

    version = registry.approve(reference, reason)
    _say(f"{version.name} version {version.number} is approved and champion.")


def reject(reference: Waiting, reason: Because = "") -> None:
    """End the challenger's promotion; for those whom its policy names as approvers."""
    from headrace import registry

    version = registry.reject(reference, reason)
    _say(f"{version.name} version {version.number} is rejected; the champion stays.")


def rollback(name: Annotated[str, typer.Argument(help="The registered model.")], reason: Because = "") -> None:
    """Take the champion back: what it replaced is served again."""
    from headrace import registry

    taken, restored = registry.rollback(name, reason)
    now = f"version {restored.number} is champion again" if restored else "no version is champion now"
    _say(f"{name} version {taken.number} was taken back; {now}.")


def _say(line: str) -> None:
    Console(soft_wrap=True, highlight=False).print(line, markup=False)
