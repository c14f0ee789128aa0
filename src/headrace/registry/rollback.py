"""Taking the champion back: anybody may, at once and without evidence, and the trail says who did and why."""

from headrace.errors import ConfigError
from headrace.registry.acts import Act, perform
from headrace.registry.promotion import current
from headrace.registry.succession import replaced_by
from headrace.registry.versions import CHAMPION, PREVIOUS, Model, Version, resolve


def rollback(name: str, reason: str = "") -> tuple[Version, Version | None]:
    """Take the champion back: `champion` returns to the version it replaced.

    What was taken back before is passed over.

    Returns:
        The version taken back, and the one served now (None: there was none before it).

    Raises:
        ConfigError: The model is unknown or has no champion.
    """
    meant = resolve(f"{name}@{CHAMPION}").number

    def decide(model: Model) -> Act:
        taken = model.aliased(CHAMPION)
        if taken is None or taken.number != meant:
            now = f"version {taken.number}" if taken else "none"
            raise ConfigError(f"The champion of {name} was version {meant} and is {now} by now. Look again.")
        return Act(action="rollback", version=taken, aliases=_after(model, taken))

    entry = perform(name, decide, reason)
    restored = entry.aliases.get(CHAMPION) if entry else None
    return resolve(f"{name}/{meant}"), resolve(f"{name}/{restored}") if restored else None


def _after(model: Model, taken: Version) -> dict[str, int]:
    """Where the aliases stand once `taken` is taken back."""
    restored = replaced_by(model, taken)
    before = replaced_by(model, restored, taken.checkpoint) if restored else None
    after = {alias: number for alias, number in current(model).items() if alias not in (CHAMPION, PREVIOUS)}
    after |= {CHAMPION: restored.number} if restored else {}
    return after | ({PREVIOUS: before.number} if before else {})
