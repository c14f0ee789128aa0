"""Which documents of the whole corpus are not trained on."""

from typing import List  # noqa: UP035  kfp reads typing.List in an artifact list's annotation

from kfp import dsl

from components.base import component


@component
def filter_corpus(
    signatures: dsl.Input[List[dsl.Dataset]],  # noqa: UP006
    config: dict,
    exclusions: dsl.Output[dsl.Dataset],
) -> None:
    """Compare the documents of all files.

    Args:
        signatures: What `sign` made of each file.
        config: An encoded `FilterConfig`.
        exclusions: Documents to leave out, with their reasons; their numbers become metadata.
    """
    from headrace.config import decode
    from headrace.data.filtering.filter import FilterConfig, filter_documents
    from headrace.tracking import task

    with task(config, {f"signatures_{number}": one for number, one in enumerate(signatures)}) as run:
        manifest = filter_documents([one.path for one in signatures], exclusions.path, decode(FilterConfig, config))
        facts = manifest.facts
        left_out = facts.exact + facts.near + facts.contaminated
        counts = {"exact": facts.exact, "near": facts.near, "contaminated": facts.contaminated}
        run.metrics({f"filter/{name}": count for name, count in counts.items()} | {"filter/documents": facts.documents})
        run.made(exclusions, manifest, f"{left_out:,} of {facts.documents:,} documents left out")
