"""The decision whether a candidate may be promoted."""

from kfp import dsl

from components.base import component


@component
def gate(
    candidate: dsl.Input[dsl.Metrics],
    base: dsl.Input[dsl.Metrics],
    incumbent: dsl.Input[dsl.Metrics],
    model: str,
    config: dict,
    verdict: dsl.Output[dsl.Artifact],
) -> str:
    """Hold a candidate's report against its base and the champion.

    Args:
        candidate: Report of the checkpoint that wants to be promoted.
        base: Report of the checkpoint it was finetuned from.
        incumbent: Report of the version to beat; without metrics where there is none.
        model: Registered name it would be promoted under.
        config: An encoded `GateConfig`.
        verdict: Every rule with its numbers.

    Returns:
        `pass` or `fail`.
    """
    from headrace import storage
    from headrace.artifacts import EvalReport
    from headrace.config import decode
    from headrace.evaluation.gate import GateConfig, judge, stands
    from headrace.tracking import task

    inputs = {"candidate": candidate, "base": base, "incumbent": incumbent}
    with task(config, inputs) as run:
        paths = {role: report.path for role, report in inputs.items()}
        judged = storage.read(candidate.path, EvalReport).facts.checkpoint
        manifest = judge(verdict.path, paths, model, decode(GateConfig, config), extra=[stands(model, judged)])
        outcome = "pass" if manifest.facts.passed else "fail"
        run.made(verdict, manifest, outcome)
    return outcome
