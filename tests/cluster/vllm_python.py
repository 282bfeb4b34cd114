"""The real vLLM for CPU, installed once into the cache, for tests that ask it something without a pod."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

from tests.cluster import host
from tests.cluster.images import content_hash, files_of
from tests.cluster.ownership import sole_command
from tests.cluster.places import CACHE, ROOT
from tests.cluster.steps import StepFailed, run, step

RECIPE = ROOT / "images" / "vllm-cpu"
INSTALLER = ("install.sh", "lock.txt", "make_cuda_stubs.py")


def python() -> Path:
    """The path of a Python that imports vllm: the same versions as in the image. Installs it when the cache lacks it (minutes)."""
    folder = CACHE / f"vllm-{content_hash(files_of(INSTALLER, RECIPE), RECIPE)}"
    finished = folder / "installed"
    if not finished.exists():
        CACHE.mkdir(parents=True, exist_ok=True)
        with sole_command(CACHE / "vllm.lock"):
            if not finished.exists():
                _install(folder)
                finished.touch()
    return folder / "bin" / "python"


def _install(folder: Path) -> None:
    host.install(host.VLLM_PACKAGES)
    shutil.rmtree(folder, ignore_errors=True)
    with step("installing the real vLLM for CPU (0.9 GB to download, 2.8 GB on disk)"):
        run("bash", RECIPE / "install.sh", folder, env={"PYTHON": _python_3_11(), "PIP_CACHE_DIR": str(CACHE / "pip")})
    for old in CACHE.glob("vllm-*"):
        if old != folder and old.is_dir():
            shutil.rmtree(old)


def _python_3_11() -> str:
    """The lock holds builds for Python 3.11. Raises StepFailed where there is none."""
    own = sys.executable if sys.version_info[:2] == (3, 11) else None
    found = own or shutil.which("python3.11")
    if found is None:
        raise StepFailed("the real vLLM for CPU is locked for Python 3.11, and there is no python3.11 here: install it")
    return found
