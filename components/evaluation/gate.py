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
    page: dsl.Output[dsl.Markdown],
    checkpoint: dsl.Input[dsl.Model] = None,
    endpoint: dsl.Input[dsl.Artifact] = None,
    data: dsl.Input[dsl.Dataset] = None,
) -> str:
    """Hold a candidate's report against its base and the champion, and what else the policy asks for.

    Args:
        candidate: Report of the checkpoint that wants to be promoted.
        base: Report of the checkpoint it was finetuned from.
        incumbent: Report of the version to beat; without metrics where there is none.
        model: Registered name it would be promoted under.
        config: An encoded `GateConfig`.
        verdict: Every rule with its numbers.
        page: The same to be read.
        checkpoint: The candidate itself.
        endpoint: What its rehearsal recorded.
        data: The report on the data it was trained on.

    Returns:
        `pass` or `fail`.
    """
    from headrace import storage
    from headrace.artifacts import EvalReport
    from headrace.config import decode
    from headrace.evaluation.gate import judge, stands
    from headrace.evaluation.policy import GateConfig
    from headrace.evaluation.verdict_page import markdown
    from headrace.pages.outputs import write_page
    from headrace.tracking import task

    reports = {"candidate": candidate, "base": base, "incumbent": incumbent}
    shown = {"checkpoint": checkpoint, "endpoint": endpoint, "data": data}
    shown = {role: artifact for role, artifact in shown.items() if artifact is not None}
    with task(config, reports | shown) as run:
        paths, evidence = ({role: one.path for role, one in given.items()} for given in (reports, shown))
        judged = storage.read(candidate.path, EvalReport).facts.checkpoint
        policy, extra = decode(GateConfig, config), [stands(model, judged)]
        manifest = judge(verdict.path, paths, model, policy, evidence=evidence, extra=extra)
        outcome = "pass" if manifest.facts.passed else "fail"
        write_page(page, markdown(manifest.facts))
        run.made(verdict, manifest, outcome)
        verdict.metadata["evidence"] = policy.stored_evidence()
    return outcome
