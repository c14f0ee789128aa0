"""Release with a rehearsal: the candidate is served before it is judged, for policies with a latency budget."""

from kfp import dsl

from components.data.gather import gather
from components.registry.fetch import fetch
from components.serving.rehearse import rehearse
from pipelines.placement import tracked
from pipelines.release import judge_and_promote


@dsl.pipeline(name="rehearsed-release", description="Release a candidate that was served before it is judged.")
def rehearsed_release(
    corpus: dict,
    candidate: str,
    base: str,
    model: str,
    evaluation: dict,
    policy: dict,
    serving: dict,
):
    """Fetch candidate and base, rehearse the candidate, evaluate, gate, promote and deploy."""
    with tracked():
        fetched = fetch(reference=candidate).set_display_name("fetch candidate").outputs["checkpoint"]
        rehearsed = rehearse(checkpoint=fetched, model=model, config=serving)
        judge_and_promote(
            fetched,
            fetch(reference=base).set_display_name("fetch base").outputs["checkpoint"],
            gather(config=corpus).outputs["corpus"],
            model,
            evaluation,
            policy,
            serving,
            {"endpoint": rehearsed.outputs["endpoint"]},
        )
