"""Writes the exact versions that go into the images, so that an image built tomorrow is the one tested today."""

from __future__ import annotations

import json
import sys
import tomllib

from tests.cluster.places import ROOT
from tests.cluster.steps import run

LOCKED = ("operator", "weights")
# The weights program needs its own extra and, of the operator's libraries, only this one: less to download, less to attack.
SHARED = "pydantic"


def wanted(image: str) -> list[str]:
    """What pyproject.toml requires of the libraries in this image. Raises KeyError for an image that has no such list."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    required: list[str] = project["dependencies"]
    match image:
        case "operator":
            return required
        case "weights":
            shared = [requirement for requirement in required if requirement.startswith(SHARED)]
            return [*project["optional-dependencies"]["weights"], *shared]
        case _:
            raise KeyError(image)


def write() -> list[str]:
    """Resolves the requirements anew and writes images/*/lock.txt; returns the files, relative to the root."""
    files = []
    for image in LOCKED:
        command = (
            sys.executable,
            "-m",
            "pip",
            "install",
            "--quiet",
            "--dry-run",
            "--ignore-installed",
            "--report",
            "-",
        )
        report = json.loads(run(*command, *wanted(image)))
        pins = sorted(f"{found['metadata']['name']}=={found['metadata']['version']}" for found in report["install"])
        file = f"images/{image}/lock.txt"
        (ROOT / file).write_text("\n".join(pins) + "\n")
        files.append(file)
    return files
