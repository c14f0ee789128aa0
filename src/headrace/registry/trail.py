"""The audit trail of a model: a chain of entries that is only ever added to.

An entry says who did what, when, why and on what evidence, and where the aliases stand from then on. It
carries the SHA-256 of the entry before it, so that whoever alters, removes or inserts one breaks the chain.

Entries are parameters of one MLflow run, which the registered model names from its creation on. MLflow takes
a parameter once, in one transaction, and refuses another value for it: of two who add the same entry, one
is refused, and an entry is there whole or not at all. Adding the entry therefore is the promotion; MLflow's
own aliases and tags follow it and can be made again from it.
"""

import json
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from headrace.config import decode
from headrace.errors import ConfigError, IntegrityError
from headrace.mlflow_server import authority_told, client, refused
from headrace.registry.entry import Action, Entry
from headrace.registry.identity import acting
from headrace.tracking import experiment_id

TRAIL, HEAD = "headrace.trail", "headrace.trail_head"
EXPERIMENT = "headrace registry"
NO_ALIAS = "headrace-permission"
"""An alias that no model has."""
KEY = re.compile(r"entry\.(\d{6})")
TEXT_CHARACTERS = 6000
"""Longest value MLflow takes for a parameter."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Trail:
    """All entries of a model, whose chain holds."""

    model: str
    run_id: str
    entries: tuple[Entry, ...] = field(default=())

    @property
    def aliases(self) -> dict[str, int]:
        """Where the aliases stand."""
        return dict(self.entries[-1].aliases) if self.entries else {}

    @property
    def head(self) -> str:
        """Number and digest of the last entry: whoever notes it can tell later whether all before it is as it was."""
        return f"{len(self.entries)} {self.entries[-1].digest}" if self.entries else ""

    def next(self, action: Action, aliases: Mapping[str, int], reason: str, **facts: Any) -> Entry:
        """The entry to add, by whoever acts now.

        Raises:
            ConfigError: It is longer than MLflow keeps.
        """
        person = acting()
        made = Entry(
            model=self.model,
            number=len(self.entries) + 1,
            before=self.entries[-1].digest if self.entries else "",
            at=time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
            who=person.name,
            known_by=person.known_by,
            action=action,
            reason=" ".join(reason.split()),
            aliases=dict(aliases),
            **facts,
        )
        if len(made.text) > TEXT_CHARACTERS:
            raise ConfigError(
                f"The reason ({len(reason):,} characters) and {len(made.approvers)} approvers make an entry of "
                f"{len(made.text):,} characters; MLflow keeps {TEXT_CHARACTERS:,}. Shorten them."
            )
        return made


@authority_told()
def begin(name: str) -> None:
    """Create the registered model with an empty trail, unless it exists.

    Raises:
        AuthorityError: MLflow does not let whoever acts.
    """
    from mlflow.exceptions import MlflowException

    marks = {"headrace.trail_of": name}
    run_id = client().create_run(experiment_id(EXPERIMENT), run_name=f"audit trail of {name}", tags=marks).info.run_id
    client().set_terminated(run_id, "FINISHED")
    try:
        client().create_registered_model(name, tags={TRAIL: run_id})
    except MlflowException as error:
        client().delete_run(run_id)
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise


def read(name: str, tags: Mapping[str, str]) -> Trail | None:
    """The trail that a registered model names; None where it names none.

    Args:
        name: The model.
        tags: Its tags. They must have been read before this is called, for their head to be in the trail.

    Raises:
        IntegrityError: The trail is gone, or an entry of it was altered, removed or inserted.
    """
    from mlflow.exceptions import MlflowException

    if TRAIL not in tags:
        return None
    try:
        parameters = client().get_run(tags[TRAIL]).data.params
    except MlflowException as error:
        if refused(error):
            raise
        raise IntegrityError(
            f"The audit trail of {name} is gone: MLflow has no run {tags[TRAIL]}. Restore it from a backup."
        ) from error
    trail = Trail(model=name, run_id=tags[TRAIL], entries=tuple(_entries(name, parameters)))
    _check_head(trail, tags.get(HEAD, ""))
    return trail


def _entries(name: str, parameters: Mapping[str, str]) -> list[Entry]:
    """Entries in their order, each checked against the one before."""
    texts = {int(found[1]): text for key, text in parameters.items() if (found := KEY.fullmatch(key))}
    entries: list[Entry] = []
    for number in range(1, max(texts, default=0) + 1):
        before = entries[-1].digest if entries else ""
        try:
            entry = decode(Entry, json.loads(texts[number]))
        except (KeyError, ValueError, ConfigError) as error:
            raise _broken(name, number) from error
        if (entry.text, entry.number, entry.before, entry.model) != (texts[number], number, before, name):
            raise _broken(name, number)
        entries.append(entry)
    return entries


def _check_head(trail: Trail, head: str) -> None:
    """What the model's tag last noted must be in the trail: nothing was cut off its end."""
    number, _, digest = head.partition(" ")
    noted = int(number) if number.isdecimal() else 0
    if head and not 1 <= noted <= len(trail.entries):
        raise _broken(trail.model, len(trail.entries) + 1)
    if head and trail.entries[noted - 1].digest != digest:
        raise _broken(trail.model, noted)


def _broken(name: str, number: int) -> IntegrityError:
    return IntegrityError(
        f"The audit trail of {name} is broken at entry {number}: that entry or one before it was altered, removed "
        "or inserted. Restore MLflow's database from a backup."
    )


def append(trail: Trail, entry: Entry) -> bool:
    """Add an entry; False where somebody else has added theirs in its place."""
    from mlflow.exceptions import MlflowException

    key = f"entry.{entry.number:06d}"
    try:
        # Deletes nothing. Who may not take an alias away, for which MLflow asks the most, must not move the trail.
        client().delete_registered_model_alias(trail.model, NO_ALIAS)
        client().log_param(trail.run_id, key, entry.text)
    except MlflowException as error:
        if refused(error):
            raise
        there = client().get_run(trail.run_id).data.params.get(key)
        if there is None:
            raise IntegrityError(
                f"The audit trail of {trail.model} takes no entry ({error.message.splitlines()[0][:160]}). "
                f"Restore run {trail.run_id}."
            ) from error
        return bool(there == entry.text)
    return True
