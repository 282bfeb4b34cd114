"""The troubleshooting page, written from the reasons and rules: `python -m vllm_operator.diagnose.page > docs/troubleshooting.md`."""

import re
from collections.abc import Iterator

from vllm_operator.diagnose.reasons import MEANINGS, Reason
from vllm_operator.diagnose.rules import Rule, all_rules

_HEAD = """# Troubleshooting

<!-- Generated from operator/vllm_operator/diagnose/ (reasons.py, rules.yaml); a test compares. Do not edit. -->

When a model does not become ready, `kubectl describe vllmmodel NAME` shows the reason in the `Ready` condition, in
`status.lastFailure` (reason, message, remedy, pod, exit code, excerpt of the log) and in an Event. The same is had from a saved log:

    vllm-operator diagnose LOGFILE --exit-code 1 --output json

LOGFILE may be what a collector gives (`gcloud logging read --format=json`, CloudWatch, Loki, Kibana, also the newest line first), what PowerShell
writes, and may hold several tries and a sidecar's lines: the newest try counts, and the exit code tells whose it is.

`retry: yes` means that the same thing, unchanged, may work next time: the operator tries again with growing pauses. The others
wait for a change. When no rule knows a log the reason is `ServerCrashed`, with the excerpt, and never a guess.
"""

_TAIL = """
## Teaching it a new log

1. Put the log into `tests/diagnose_logs/` and its reason into `tests/diagnose_logs/expected.yaml`.
2. Add a rule to `operator/vllm_operator/diagnose/rules.yaml` (its head explains the fields).
3. `python -m vllm_operator.diagnose.page > docs/troubleshooting.md`, and run the tests.
"""


def page() -> str:
    """The whole page as Markdown."""
    return "\n".join(_lines()) + _TAIL


def _lines() -> Iterator[str]:
    yield _HEAD
    group = ""
    for reason in Reason:
        meaning = MEANINGS[reason]
        if meaning.group != group:
            group = meaning.group
            yield f"## {group}\n"
        yield f"### {reason}\n"
        yield f"{meaning.text}\n"
        yield f"**What to do:** {meaning.remedy}  \n**Retry:** {'yes' if meaning.retry else 'no'}\n"
        rules = [rule for rule in all_rules() if rule.reason is reason]
        if rules:
            yield "| seen as | what to do | retry |\n|---|---|---|"
            yield from (_row(rule) for rule in rules)
            yield ""


def _row(rule: Rule) -> str:
    said = re.sub(r"\{(\w+)\}", r"*\1*", rule.message[0])
    remedy = re.sub(r"\{(\w+)\}", r"*\1*", rule.remedy)
    cells = (said, remedy, "yes" if rule.retry else "no")
    return "| " + " | ".join(cell.replace("|", "\\|").replace("<", "&lt;") for cell in cells) + " |"


if __name__ == "__main__":
    print(page(), end="")
