from headrace.artifacts import Rule, Verdict
from headrace.evaluation.verdict_page import markdown


def test_every_rule_has_a_row_with_its_outcome_and_numbers() -> None:
    rules = (
        Rule(name="floor", passed=True, reason="acc is 0.9.", numbers={"value": 0.9, "floor": 0.8}),
        Rule(name="latency", passed=False, reason="a|b <script>\nc"),
    )
    verdict = Verdict(
        passed=False, candidate="c" * 64, champion=None, model="gptj", rules=rules, approvers=("ada", "ben")
    )
    assert markdown(verdict) == (
        "# gptj: did not pass\n\nCandidate `cccccccccccc`, no champion yet.\nTo be approved by ada or ben.\n\n"
        "| rule | | why | numbers |\n| --- | --- | --- | --- |\n"
        "| floor | passed | acc is 0.9. | value 0.9, floor 0.8 |\n"
        "| latency | **failed** | a\\|b \\<script\\> c |  |\n"
    )
