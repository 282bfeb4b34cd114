"""Which of a source's files vLLM needs. Pure.

One format of weights: safetensors before .bin before .pt, and the Transformers layout before Mistral's `consolidated*`
(vLLM itself would prefer that one when both lie in the folder, and read a second copy of everything). With them every
file of configuration and tokenizer, and Python files only for a model whose code is trusted.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import PurePosixPath

from vllm_weights.failure import Reason, WeightsError
from vllm_weights.listing import RemoteFile

SMALL_SUFFIXES = (".json", ".jinja", ".model", ".tiktoken", ".txt", ".vocab", ".bpe", ".tok")
NOT_NEEDED = ("README*", "LICENSE*", "NOTICE*", "*.md", "requirements*.txt", "trainer_state.json", "all_results.json",
              "*.safetensors.index.*.json", "*.onnx_data*")  # fmt: skip
SUFFIXES = {".safetensors": "safetensors", ".bin": "bin", ".pt": "pt", ".pth": "pt", ".gguf": "gguf"}
VARIANT = re.compile(r"model\.\w+\.safetensors")
"""`model.fp16.safetensors` beside `model.safetensors`: the same tensors again, and vLLM would load both."""
INDEX = re.compile(r"(.*)\.index\.json")
MISTRAL_TOKENIZER = re.compile(r"tokenizer\.model\.v\d+\w*|tekken\.json")
TRAINING_LEFTOVERS = re.compile(r"(training_args|optimizer|scheduler|scaler|rng_state\w*)\.(bin|pt|pth)")
"""What vLLM's own loader leaves out."""
SENTENCE_MODULE = re.compile(r"\d+_\w+")
"""sentence-transformers' layers, such as 1_Pooling and 2_Dense; vLLM reads them for embeddings."""
GGUF_SHARD = re.compile(r"-\d{5}-of-\d{5}(?=\.gguf$)")


@dataclass(frozen=True, slots=True)
class Wish:
    """What the request says about files. `include` replaces the whole choice, `exclude` takes from it."""

    include: tuple[str, ...] | None = None
    exclude: tuple[str, ...] | None = None
    trust_remote_code: bool = False
    load_format: str | None = None


@dataclass(frozen=True, slots=True)
class Selection:
    files: tuple[RemoteFile, ...]
    format: str
    """`safetensors`, `mistral`, `bin`, `pt` or `gguf`; `none` where no weights are among the files."""

    @property
    def size(self) -> int:
        return sum(file.size for file in self.files)

    @property
    def weights(self) -> tuple[RemoteFile, ...]:
        return tuple(file for file in self.files if format_of(file.path) == self.format)


def format_of(path: str) -> str:
    """The format of weights a file belongs to; `none` for other files and for those that vLLM never loads."""
    name, parent = PurePosixPath(path).name, PurePosixPath(path).parent.as_posix()
    if parent != "." and not SENTENCE_MODULE.fullmatch(parent):
        return "none"
    if TRAINING_LEFTOVERS.fullmatch(name):
        return "none"
    found = SUFFIXES.get(PurePosixPath(path).suffix, "none")
    if name.startswith("consolidated"):
        return "mistral" if found == "safetensors" else "none"
    return found


def select(files: Iterable[RemoteFile], wish: Wish, indexed: frozenset[str] | None = None) -> Selection:
    """The files to take. `indexed`: the shards that `model.safetensors.index.json` names, None without one.

    Raises WeightsMissing where nothing can be loaded, and for several GGUF models in one repository.
    """
    listed = tuple(files)
    if wish.include is not None:
        chosen = tuple(file for file in listed if _matches(file.path, wish.include))
        weights_format = _format_among(chosen, wish.load_format)
    else:
        kept = tuple(file for file in listed if not _matches(file.path, wish.exclude or ()))
        weights_format = _format_among(kept, wish.load_format)
        chosen = tuple(file for file in kept if _is_wanted(file.path, weights_format, wish, indexed))
        if indexed is None and any(file.path == "model.safetensors" for file in chosen):
            chosen = tuple(file for file in chosen if not VARIANT.fullmatch(file.path))
    chosen = tuple(file for file in chosen if not _matches(file.path, wish.exclude or ()))
    selection = Selection(tuple(sorted(chosen, key=_order)), weights_format)
    _check(selection, wish)
    return selection


def tokenizer_files(files: Iterable[RemoteFile], trust_remote_code: bool) -> tuple[RemoteFile, ...]:
    """The files of a repository that only serves as a tokenizer."""
    return tuple(sorted((file for file in files if _is_small(file.path, trust_remote_code)), key=_order))


def _matches(path: str, globs: Iterable[str]) -> bool:
    return any(fnmatchcase(path, glob) or fnmatchcase(path, f"{glob.rstrip('/')}/*") for glob in globs)


def _format_among(files: Iterable[RemoteFile], load_format: str | None) -> str:
    present = {format_of(file.path) for file in files if "/" not in file.path}
    wanted: dict[str, tuple[str, ...]] = {
        "mistral": ("mistral",),
        "gguf": ("gguf",),
        "pt": ("bin", "pt"),
        "safetensors": ("safetensors", "mistral"),
    }
    order = wanted.get(load_format or "auto", ("safetensors", "mistral", "bin", "pt", "gguf"))
    return next((name for name in order if name in present), "none")


def _is_wanted(path: str, weights_format: str, wish: Wish, indexed: frozenset[str] | None) -> bool:
    found = format_of(path)
    if found != "none":
        in_index = indexed is None or "/" in path or weights_format != "safetensors" or path in indexed
        nested = "/" in path and found in ("safetensors", "bin")
        return in_index and (found == weights_format or (nested and found == _plain(weights_format)))
    if (index := INDEX.fullmatch(path)) and format_of(index[1]) not in ("none", weights_format):
        return False  # Of a format that is not taken.
    return _is_small(path, wish.trust_remote_code)


def _plain(weights_format: str) -> str:
    return "safetensors" if weights_format == "mistral" else weights_format


def _is_small(path: str, trust_remote_code: bool) -> bool:
    name, parent = PurePosixPath(path).name, PurePosixPath(path).parent.as_posix()
    if name.startswith(".") or _matches(name, NOT_NEEDED):
        return False
    if name.endswith(".py"):
        return trust_remote_code
    if parent != "." and not (SENTENCE_MODULE.fullmatch(parent) or _is_chat_template(parent)):
        return False
    return name.endswith(SMALL_SUFFIXES) or bool(MISTRAL_TOKENIZER.fullmatch(name))


def _is_chat_template(parent: str) -> bool:
    return parent == "additional_chat_templates"


def _order(file: RemoteFile) -> tuple[bool, str]:
    """Small files first: a gate, a wrong token or a full disk shows before the first shard."""
    return format_of(file.path) != "none", file.path


def _check(selection: Selection, wish: Wish) -> None:
    if selection.format == "none" or not selection.weights:
        asked = f" in the format {wish.load_format!r}" if wish.load_format else ""
        patterns = " among the files that include and exclude leave" if wish.include or wish.exclude else ""
        raise WeightsError(
            Reason.WEIGHTS_MISSING,
            f"The source holds no weights that vLLM can load{asked}{patterns}.",
            "Name a repository with .safetensors, .bin, .pt or .gguf files at its top, or correct the patterns.",
        )
    models = {GGUF_SHARD.sub("", file.path) for file in selection.weights}
    if selection.format == "gguf" and len(models) > 1:
        raise WeightsError(
            Reason.WEIGHTS_MISSING,
            f"The source holds {len(models)} GGUF models, {sorted(models)[0]} among them.",
            "Name one, with the configuration, by include: ['*Q4_K_M.gguf', '*.json'].",
        )
