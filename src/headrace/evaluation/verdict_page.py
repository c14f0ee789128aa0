"""A verdict as Markdown: every rule with its numbers, as Kubeflow's pages show it."""

from collections.abc import Iterator

from headrace.artifacts import Rule, Verdict


def markdown(verdict: Verdict) -> str:
    """A table with a row for each rule, in the order they were decided."""
    return "\n".join(_lines(verdict)) + "\n"


def _lines(verdict: Verdict) -> Iterator[str]:
    yield f"# {verdict.model}: {'passed' if verdict.passed else 'did not pass'}"
    yield ""
    against = f"champion `{verdict.champion[:12]}`" if verdict.champion else "no champion yet"
    yield f"Candidate `{verdict.candidate[:12]}`, {against}."
    if verdict.approvers:
        yield f"To be approved by {' or '.join(map(_plain, verdict.approvers))}."
    yield ""
    yield "| rule | | why | numbers |"
    yield "| --- | --- | --- | --- |"
    yield from map(_row, verdict.rules)


def _row(rule: Rule) -> str:
    numbers = ", ".join(f"{_plain(name)} {value:.6g}" for name, value in rule.numbers.items())
    outcome = "passed" if rule.passed else "**failed**"
    return f"| {_plain(rule.name)} | {outcome} | {_plain(rule.reason)} | {numbers} |"


def _plain(text: str) -> str:
    """Text that ends no cell and begins no markup."""
    escaped = "".join(f"\\{letter}" if letter in "\\|*_`[]<>" else letter for letter in text)
    return " ".join(escaped.split())
