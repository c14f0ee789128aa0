"""Release: a candidate served, measured beside its base and the champion, and promoted if the evidence says so."""

from kfp import dsl

from components.data.gather import gather
from components.evaluation.evaluate import evaluate
from components.evaluation.evaluate_incumbent import evaluate_incumbent
from components.evaluation.gate import gate
from components.registry.fetch import fetch
from components.registry.promote import promote
from components.serving.deploy import deploy
from components.serving.rehearse import rehearse
from pipelines.placement import tracked


def judge_and_promote(
    candidate: dsl.Model,
    base: dsl.Model,
    corpus: dsl.Dataset,
    model: str,
    evaluation: dict,
    policy: dict,
    serving: dict,
    data: dsl.Dataset | None = None,
) -> None:
    """Measure the three, decide, and only on a pass promote; the endpoint starts unless somebody must approve first.

    The candidate is served once before it is judged: what does not answer is not promoted, and how fast it
    answers is evidence.

    Args:
        candidate: The checkpoint that wants to be promoted.
        base: What it was finetuned from.
        corpus: Where the held-out splits lie.
        model: Registered name.
        evaluation: An encoded `EvalConfig`.
        policy: An encoded `GateConfig`.
        serving: An encoded `DeployConfig`.
        data: The report on what the chain trained on, where it prepared data itself.
    """
    rehearsed = rehearse(checkpoint=candidate, model=model, config=serving)
    of_base = evaluate(checkpoint=base, corpus=corpus, config=evaluation)
    of_candidate = evaluate(checkpoint=candidate, corpus=corpus, config=evaluation)
    of_incumbent = evaluate_incumbent(candidate=candidate, corpus=corpus, model=model, config=evaluation)
    verdict = gate(
        candidate=of_candidate.outputs["report"],
        base=of_base.outputs["report"],
        incumbent=of_incumbent.outputs["report"],
        model=model,
        config=policy,
        checkpoint=candidate,
        endpoint=rehearsed.outputs["endpoint"],
        **({} if data is None else {"data": data}),
    )
    of_base.set_display_name("evaluate base")
    of_candidate.set_display_name("evaluate candidate")
    with dsl.If(verdict.outputs["Output"] == "pass", name="gate-passed"):
        version = promote(checkpoint=candidate, verdict=verdict.outputs["verdict"], model=model)
        with dsl.If(version.outputs["Output"] == "champion", name="promoted"):
            deploy(version=version.outputs["version"], config=serving)


@dsl.pipeline(name="release", description="Measure a candidate, hold it against the champion, promote it.")
def release(
    corpus: dict,
    candidate: str,
    base: str,
    model: str,
    evaluation: dict,
    policy: dict,
    serving: dict,
):
    """Fetch candidate and base, rehearse, evaluate, gate, promote and deploy."""
    with tracked():
        judge_and_promote(
            fetch(reference=candidate).set_display_name("fetch candidate").outputs["checkpoint"],
            fetch(reference=base).set_display_name("fetch base").outputs["checkpoint"],
            gather(config=corpus, evaluation=evaluation).outputs["corpus"],
            model,
            evaluation,
            policy,
            serving,
        )
