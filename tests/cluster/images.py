"""The project's images: what each is made of, its name by content, and how it gets to the node.

A reference ends in a hash over all that goes into the image, so an image is built when, and only when, something in it changed.
"""

from __future__ import annotations

import hashlib
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path

from tests.cluster import binary, models, runtime
from tests.cluster.engine import Engine, engine
from tests.cluster.ownership import sole_command
from tests.cluster.places import CACHE, ROOT
from tests.cluster.steps import StepFailed, say, step

REGISTRY = "vllm-operator.local"  # resolves nowhere: such an image is on the node or it is not
# The same version as in images/vllm-cpu/lock.txt. With the loader for buckets it is taken when vLLM starts in it on this machine's
# processor, for a user without rights.
UPSTREAM_CPU = "vllm/vllm-openai-cpu:v0.32.0"
VLLM_STARTS = (
    "python3",
    "-c",
    "from vllm.platforms import current_platform as platform; platform.import_kernels(); assert platform.is_cpu(); "
    "import runai_model_streamer, runai_model_streamer_s3",
)
NOT_SOURCE = ("__pycache__", ".pyc", ".egg-info", ".unfinished")


@dataclass(frozen=True, slots=True)
class Image:
    """One image: the files and folders of the repository that its Dockerfile copies, and whether the demo's models go in.

    `upstream` is an image that serves instead where a registry gives it.
    """

    name: str
    inputs: tuple[str, ...]
    with_models: bool = False
    upstream: str | None = None

    @property
    def dockerfile(self) -> str:
        return f"images/{self.name}/Dockerfile"


ALL = {
    image.name: image
    for image in (
        Image("operator", ("images/operator", "pyproject.toml", "operator/vllm_operator")),
        Image("weights", ("images/weights", "operator/vllm_weights")),
        Image("vllm-cpu", ("images/vllm-cpu",), upstream=UPSTREAM_CPU),
        Image("vllm-fake", ("images/vllm-fake", "tests/fakes/vllm.py")),
        Image("hub", ("images/hub", "tests/__init__.py", "tests/hub"), with_models=True),
    )
}


def files_of(inputs: tuple[str, ...], root: Path = ROOT) -> list[Path]:
    """All source files below the inputs, relative to the root, sorted. Raises StepFailed when an input is not there."""
    found: set[Path] = set()
    for given in inputs:
        path = root / given
        if not path.exists():
            raise StepFailed(f"{given} is missing in this checkout: an image is made from it")
        below = path.rglob("*") if path.is_dir() else (path,)
        found.update(file.relative_to(root) for file in below if file.is_file() and _is_source(file))
    return sorted(found)


def _is_source(file: Path) -> bool:
    return not any(part.endswith(NOT_SOURCE) for part in file.parts)


def content_hash(files: list[Path], root: Path = ROOT, *, also: str = "") -> str:
    """Twelve hexadecimal digits over names, contents and the right to execute; `also` mixes in what is not a file."""
    digest = hashlib.sha256(also.encode())
    for file in files:
        content = (root / file).read_bytes()
        executable = bool((root / file).stat().st_mode & 0o100)
        digest.update(f"\0{file}\0{executable}\0{len(content)}\0".encode() + content)
    return digest.hexdigest()[:12]


def reference(image: Image, root: Path = ROOT) -> str:
    """The image's full name, by the content of the sources below the root."""
    also = models.recipe_hash() if image.with_models else ""
    return f"{REGISTRY}/{image.name}:{content_hash(files_of(image.inputs, root), root, also=also)}"


def references(names: tuple[str, ...] = tuple(ALL)) -> dict[str, str]:
    """Each image's reference by its name, for the sources as they are now."""
    return {name: reference(ALL[name]) for name in names}


def build(name: str) -> str:
    """Builds the image unless the engine keeps it already; returns its reference. Older tags of it are forgotten."""
    image, builder = ALL[name], engine()
    CACHE.mkdir(parents=True, exist_ok=True)
    with sole_command(CACHE / f"image-{name}.lock"), tempfile.TemporaryDirectory(dir=CACHE) as folder:
        # The name is taken from the copy: somebody may be editing the sources right now.
        context = _context(image, Path(folder))
        wanted = reference(image, context)
        if builder.has(wanted):
            return wanted
        added = context / f"{image.dockerfile}.upstream"
        if image.upstream and builder.take(image.upstream, wanted, context, added, VLLM_STARTS):
            say(f"  the image {name} is upstream's {image.upstream}: a registry gave it")
        else:
            _build(image, builder, context, wanted)
        _forget_older(builder, wanted)
    return wanted


def _build(image: Image, builder: Engine, context: Path, wanted: str) -> None:
    with sole_command(CACHE / "image-base.lock", quietly=True):
        base = builder.base()
    with step(f"building the image {image.name}"):
        if image.with_models:
            shutil.copytree(models.folder(), context / "models")
        builder.build(wanted, context, context / image.dockerfile, {"BASE": base})


def _context(image: Image, folder: Path) -> Path:
    """A folder with exactly the files that the hash speaks of, so that nothing else can get into the image."""
    for file in files_of(image.inputs):
        (folder / file).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(ROOT / file, folder / file)
    return folder


def _forget_older(builder: Engine, kept: str) -> None:
    for other in builder.references(kept.rpartition(":")[0]):
        if other != kept:
            builder.forget(other)


def put_on_node(name: str) -> str:
    """Sees to it that containerd has the image, building it first when needed; returns its reference."""
    wanted = reference(ALL[name])
    if wanted not in runtime.images():
        wanted = build(name)
        _import(engine(), wanted)
    return wanted


def put_pause_on_node(folder: Path) -> None:
    """The image of every pod's first process: from the folder that holds the node's binary."""
    wanted = pause_reference()
    if wanted in runtime.images():
        return
    builder = engine()
    if not builder.has(wanted):
        with tempfile.TemporaryDirectory(dir=CACHE) as context:
            shutil.copy2(folder / "pause", context)
            builder.build(wanted, Path(context), binary.SOURCES / "pause" / "Dockerfile", {})
    _import(builder, wanted)


def pause_reference() -> str:
    """By the content of its sources."""
    return f"{runtime.PAUSE}:{content_hash(files_of(('pause',), binary.SOURCES), binary.SOURCES)}"


def _import(builder: Engine, wanted: str) -> None:
    name = wanted.rpartition("/")[2].partition(":")[0]
    with step(f"putting the image {name} on the node"):
        runtime.take(builder.save(wanted), wanted)
