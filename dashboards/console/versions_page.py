"""The page of versions: which one is served, which were, and the rules and numbers that decided it."""

import streamlit as st

from dashboards.console import charts, versions
from dashboards.console.versions import Release
from dashboards.console.words import escape, number, unsigned
from headrace.artifacts import Rule, Verdict
from headrace.tracking import tracking_uri

NO_MODELS = """
**No version is registered yet.** A pipeline registers one when its gate passes:

```
headrace run end_to_end --recipe demo
```
"""
DIGEST_LETTERS = 12
DECISIONS = {
    "challenger": ("It waits for approval:", "headrace models approve {name}/{number} --reason WHY"),
    "champion": ("To take it back:", "headrace models rollback {name}"),
}
"""What may be done next with the version that an alias names."""


def draw() -> None:
    """Let a model and one of its versions be chosen, and show why it was promoted."""
    st.header("Versions")
    with st.spinner("Reading MLflow"):
        models = versions.models()
    if not models:
        st.info(NO_MODELS)
        st.caption(escape(f"Reading {unsigned(tracking_uri())}"))
        return
    found = versions.releases(st.selectbox("Model", models))
    if not found:
        st.info("This model has no version yet.")
        return
    st.dataframe([row(release) for release in found], hide_index=True)
    at = st.selectbox(
        "Version", range(len(found)), index=versions.served(found), format_func=lambda at: label(found[at])
    )
    show(found[at])


def label(release: Release) -> str:
    """A version in a few words."""
    return " · ".join([f"version {release.version.number}", *release.version.aliases])


def row(release: Release) -> dict[str, str]:
    """A version as a row of the table."""
    return {
        "version": str(release.version.number),
        "aliases": ", ".join(release.version.aliases),
        "promoted": release.promoted_at,
        "by": release.promoted_by,
        "replaced": f"version {release.replaced}" if release.replaced else "",
        "taken back": release.rolled_back,
        "rejected": release.rejected,
        "checkpoint": release.version.checkpoint[:DIGEST_LETTERS],
        "verdict": release.verdict_digest[:DIGEST_LETTERS],
    }


def show(release: Release) -> None:
    """One version: how it stands, and the verdict rule by rule."""
    if release.rolled_back:
        st.warning(escape(f"Taken back {release.rolled_back}"))
    if release.rejected:
        st.warning(escape(f"Rejected {release.rejected}"))
    if release.verdict is None:
        st.warning("This version carries no evidence: it was not registered by a headrace pipeline.")
        return
    show_verdict(release.verdict)
    for alias, (words, command) in DECISIONS.items():
        if alias in release.version.aliases:
            st.caption(words)
            st.code(command.format(name=release.version.name, number=release.version.number), language=None)


def show_verdict(verdict: Verdict) -> None:
    """The decision, what was compared, and every rule with its numbers."""
    passed = sum(rule.passed for rule in verdict.rules)
    said = f"{passed} of {len(verdict.rules)} rules passed"
    (st.success if verdict.passed else st.error)(said)
    against = verdict.champion[:DIGEST_LETTERS] if verdict.champion else "nothing, as the first of its name"
    st.markdown(escape(f"Checkpoint {verdict.candidate[:DIGEST_LETTERS]} was held against {against}."))
    if (figure := charts.differences(verdict.rules)) is not None:
        st.plotly_chart(figure, key="differences", config=charts.PLAIN)
    st.table([rule_row(rule) for rule in verdict.rules])


def rule_row(rule: Rule) -> dict[str, str]:
    """A rule as a row of the table of evidence."""
    return {
        "": "✓" if rule.passed else "✗",
        "rule": escape(rule.name),
        "why": escape(rule.reason),
        "numbers": escape(" · ".join(f"{name} {number(value)}" for name, value in rule.numbers.items())),
    }


if __name__ == "__main__":
    draw()
