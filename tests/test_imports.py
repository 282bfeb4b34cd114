"""Imports point inward, kopf stays at the rim, and the source root is no package."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]


def run(*argv: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "operator")}
    return subprocess.run(
        [sys.executable, *argv], cwd=ROOT, env=environment, capture_output=True, text=True, timeout=60, check=False
    )


def test_the_import_contracts_hold() -> None:
    found = run("-c", "from importlinter.cli import lint_imports_command; lint_imports_command()", "--no-cache")

    assert found.returncode == 0, found.stdout + found.stderr


def test_the_source_root_is_no_package() -> None:
    """With an __init__.py it would hide the standard library's `operator`."""
    assert not (ROOT / "operator" / "__init__.py").exists()


def test_help_imports_neither_kopf_nor_the_client() -> None:
    program = (
        "import sys, vllm_operator.__main__ as m\n"
        "try: m.main(['--help'])\n"
        "except SystemExit: pass\n"
        "print(sorted({'kopf', 'kubernetes', 'aiohttp', 'pydantic', 'jinja2'} & set(sys.modules)))"
    )

    assert run("-c", program).stdout.splitlines()[-1] == "[]"
