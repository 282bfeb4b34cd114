"""`vllm-operator diagnose`: what a server's log says went wrong, and what to change."""

from __future__ import annotations

import json

from vllm_operator.commands.models import read_text
from vllm_operator.diagnose import diagnose_log


def diagnose_command(file: str, exit_code: int | None, output: str) -> int:
    """Prints the failure that the log shows. Exit code 0: a log that shows none is a crash without a known cause."""
    found = diagnose_log(read_text(file), exit_code)
    if output == "json":
        print(json.dumps(found.as_answer(), indent=2, ensure_ascii=False))
        return 0
    print(f"{found.reason}: {found.message}")
    print(f"Remedy: {found.remedy}")
    if found.excerpt:
        print("\n".join(["Log:", *(f"  {line}" for line in found.excerpt.splitlines())]))
    return 0
