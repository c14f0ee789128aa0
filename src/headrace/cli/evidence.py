"""Whether a chain can show its gate what the recipe's policy asks for, told before anything is computed."""

from typing import Any

from headrace.cli.graph import tasks
from headrace.errors import ConfigError

NAMED_BY = {"data": "data_reports", "certificate": "certificate"}
"""Keys of the policy that name evidence by its place."""


def require_evidence(chain: Any, recipe: Any) -> None:
    """Refuse a policy that no run of this chain could satisfy.

    Args:
        chain: A compiled pipeline; one without a gate takes no policy, and refuses none.
        recipe: The recipe it is to run with.

    Raises:
        ConfigError: The policy asks for evidence that the chain does not make, or that does not lie where it says.
    """
    from headrace import storage

    shown = gate_inputs(chain)
    if shown is None or recipe.policy is None:
        return
    for role, key in recipe.policy.wanted_evidence().items():
        if role not in shown:
            raise ConfigError(_cannot(chain, role, key))
        if role == "data" and recipe.filtering.contamination == "off":
            raise ConfigError(
                f"policy.{key}={getattr(recipe.policy, key):g} asks for data without evaluation items, and nothing "
                "looks for them: filtering.contamination is 'off'. Set it to 'report' or 'drop'."
            )
    if recipe.policy.min_items_checked is not None:
        _require_held_out(recipe)
    for role, uri in recipe.policy.stored_evidence().items():
        if not storage.exists(uri):
            key = NAMED_BY[role.partition("_")[0]]
            raise ConfigError(f"policy.{key} names {uri}, and no artifact lies there. Give the path of one.")


def _require_held_out(recipe: Any) -> None:
    """Refuse scores of what is trained on: nobody looks for it in the training data."""
    from headrace.data.corpus import TRAINED_ON

    for name, data in recipe.evaluation.measured().items():
        if data in TRAINED_ON:
            raise ConfigError(
                f"policy.min_items_checked={recipe.policy.min_items_checked:g} asks for data without evaluation items, "
                f"and {name!r} is measured on {data!r}, which is trained on. Measure it on held-out data."
            )


def gate_inputs(chain: Any) -> set[str] | None:
    """Names of the artifacts that a compiled pipeline hands to its gate; None where it has none."""
    return next((set(task.inputs.artifacts) for task in tasks(chain) if task.task_info.name == "gate"), None)


def _cannot(chain: Any, role: str, key: str) -> str:
    """One line that says which chain can."""
    from headrace.cli import project

    chains = [project.load_pipeline(name) for name in project.pipeline_names()]
    able = " or ".join(other.name for other in chains if role in (gate_inputs(other) or ()))
    by_name = f", or name reports that lie elsewhere in policy.{NAMED_BY[role]}" if role in NAMED_BY else ""
    return f"{chain.name} makes no evidence for policy.{key}. Run {able or 'a chain that does'}{by_name}."
