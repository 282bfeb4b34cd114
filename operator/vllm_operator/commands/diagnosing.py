"""`vllm-operator diagnose`: what a server's log says went wrong, and what to change."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from vllm_operator.commands.wrong import WrongInput
from vllm_operator.diagnose import diagnose_log


def diagnose_command(file: str, exit_code: int | None, output: str) -> int:
    """Prints the failure that the log shows. Exit code 0: a log that shows none is a crash without a known cause."""
    found = diagnose_log(_read(file), exit_code)
    if output == "json":
        print(json.dumps(found.as_answer(), indent=2, ensure_ascii=False))
        return 0
    print(f"{found.reason}: {found.message}")
    print(f"Remedy: {found.remedy}")
    if found.excerpt:
        print("\n".join(["Log:", *(f"  {line}" for line in found.excerpt.splitlines())]))
    return 0


def _read(file: str) -> bytes | str:
    """The file as it is, of any encoding; standard input for "-"."""
    if file == "-":
        return sys.stdin.buffer.read() if hasattr(sys.stdin, "buffer") else sys.stdin.read()
    try:
        return Path(file).read_bytes()
    except OSError as error:
        raise WrongInput(f"{file} cannot be read: {error.strerror or error}") from error
