"""Which of a source's files vLLM needs. Pure.

One format of weights: safetensors before .bin before .pt, and the Transformers layout before Mistral's `consolidated*`
unless only that one is whole (vLLM itself prefers it whenever it lies in the folder). With them every file of
configuration and tokenizer, and Python files only for a model whose code is trusted. tests/weights_layouts.py has
layouts of published repositories, and a test asks vLLM's own loader about each.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import lru_cache
from pathlib import PurePosixPath

from vllm_weights.failure import Reason, WeightsError
from vllm_weights.listing import RemoteFile
from vllm_weights.nearby import near_miss

SMALL_SUFFIXES = (".json", ".jinja", ".model", ".tiktoken", ".txt", ".vocab", ".bpe", ".tok")
NOT_NEEDED = ("README*", "LICENSE*", "NOTICE*", "*.md", "requirements*.txt", "trainer_state.json", "all_results.json",
              "*.index.*.json", "*.onnx_data*")  # fmt: skip
SUFFIXES = {".safetensors": "safetensors", ".bin": "bin", ".pt": "pt", ".gguf": "gguf"}
"""vLLM loads no .pth."""
VARIANT = re.compile(r"(model|pytorch_model)\.\w+(-\d{5}-of-\d{5})?(\.\w+)")
"""`model.fp16.safetensors`, or shards in another precision, beside `model.safetensors`: vLLM would load both."""
INDEX = re.compile(r"(.*)\.index\.json")
MISTRAL_TOKENIZER = re.compile(r"tokenizer\.model\.v\d+\w*|tekken\.json")
TOKENIZER = re.compile(
    r"tokenizer\.(json|model)|vocab\.(json|txt)|spiece\.model|spm\.model|tiktoken\.model|sentencepiece\.bpe\.model|.*\.tiktoken"
)
"""What a tokenizer of Transformers is made from; one of them is enough."""
NO_WEIGHTS = re.compile(
    r"(training_args|optimizer|scheduler|scaler|rng_state\w*)\.(bin|pt)|(openvino|ggml)[\w.-]*\.bin|mmproj[\w.-]*\.gguf"
)
"""What training leaves behind, and what other programs name like weights of ours."""
HEADS = frozenset({"joint_head.safetensors", "sparse_linear.pt", "colbert_linear.pt", "mask_embedding.pt"})
"""Small parts of a model that vLLM's classes read by name, whatever the format of the rest (BGE-M3's, for one)."""
READ_FOLDER = re.compile(r"\d+_\w+|speech_tokenizer|audio_tokenizer|whisper-large-v3|adapters/[^/]+")
"""Folders that vLLM reads: layers of sentence-transformers (1_Pooling, 2_Dense), and what audio models and Jina keep apart."""
SHARD = re.compile(r"(.*)-(\d{5})-of-(\d{5})(\.\w+)")
_CTRANSLATE = re.compile(r"(?:shared_|source_|target_)?vocabulary\.(?:json|txt)")
"""What lies beside a model.bin of CTranslate2, and of nobody else."""
BRACES = re.compile(r"\{([^{}]*,[^{}]*)\}")
MOST_FORMS = 64
GGUF_SHARD = re.compile(r"-\d{5}-of-\d{5}(?=\.gguf$)")


@dataclass(frozen=True, slots=True)
class Wish:
    """What the request says about files. `include` replaces the whole choice, `exclude` takes from it."""

    include: tuple[str, ...] | None = None
    exclude: tuple[str, ...] | None = None
    trust_remote_code: bool = False
    load_format: str | None = None
    source: str = "The source"
    """As messages call it."""


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
    if parent != "." and not READ_FOLDER.fullmatch(parent):
        return "none"
    if NO_WEIGHTS.fullmatch(name) or name in HEADS:
        return "none"
    found = SUFFIXES.get(PurePosixPath(path).suffix, "none")
    if name.startswith("consolidated"):
        return "mistral" if found == "safetensors" else "none"
    return found


def select(files: Iterable[RemoteFile], wish: Wish, indexed: frozenset[str] | None = None) -> Selection:
    """The files to take. `indexed`: the shards that `model.safetensors.index.json` names, None without one.

    Raises WeightsMissing where nothing can be loaded, and for several GGUF models in one repository.
    """
    kept = tuple(file for file in files if not _matches(file.path, wish.exclude or ()))
    if wish.include is not None:
        chosen = tuple(file for file in kept if _matches(file.path, wish.include))
        weights_format = _format_among(chosen, wish.load_format)
    else:
        weights_format = _format_among(kept, wish.load_format)
        around = _Around(weights_format, wish, indexed, frozenset(file.path for file in kept))
        chosen = tuple(file for file in kept if around.wants(file.path))
    selection = Selection(tuple(sorted(chosen, key=_order)), weights_format)
    _check(selection, wish, indexed, kept)
    return selection


def tokenizer_files(files: Iterable[RemoteFile], trust_remote_code: bool) -> tuple[RemoteFile, ...]:
    """The files of a repository that only serves as a tokenizer."""
    return tuple(sorted((file for file in files if _is_small(file.path, trust_remote_code)), key=_order))


def is_tokenizer(path: str) -> bool:
    """Whether a tokenizer, of Transformers or of Mistral, is made from this file."""
    return bool(TOKENIZER.fullmatch(path) or MISTRAL_TOKENIZER.fullmatch(path))


def _matches(path: str, globs: Iterable[str]) -> bool:
    return any(
        fnmatchcase(path, form) or fnmatchcase(path, f"{form.rstrip('/')}/*")
        for glob in globs
        for form in _spelled_out(glob)
    )


@lru_cache(maxsize=256)
def _spelled_out(glob: str) -> tuple[str, ...]:
    """`*.{json,txt}` is `*.json` and `*.txt`. Raises InvalidArgument for more than any repository needs."""
    forms = [glob]
    while match := next((found for form in forms if (found := BRACES.search(form))), None):
        group, choices = match[0], match[1].split(",")
        forms = [form.replace(group, choice, 1) for form in forms for choice in (choices if group in form else [""])]
        if len(forms) > MOST_FORMS:
            raise WeightsError(
                Reason.INVALID_ARGUMENT,
                f"The pattern {glob!r} stands for more than {MOST_FORMS} others.",
                "Write it with fewer braces: * and ? match what differs.",
            )
    return tuple(forms)


def _format_among(files: Iterable[RemoteFile], load_format: str | None) -> str:
    names = {file.path for file in files if "/" not in file.path}
    present = {format_of(name) for name in names}
    wanted: dict[str, tuple[str, ...]] = {
        "mistral": ("mistral",),
        "gguf": ("gguf",),
        "pt": ("bin", "pt"),
        "safetensors": ("safetensors", "mistral"),
    }
    order = wanted.get(load_format or "auto", ("safetensors", "mistral", "bin", "pt", "gguf"))
    if load_format in (None, "auto") and "mistral" in present and _is_whole_for_mistral_alone(names):
        return "mistral"
    return next((name for name in order if name in present), "none")


def _is_whole_for_mistral_alone(names: set[str]) -> bool:
    """Whether Transformers would miss its configuration or tokenizer, and Mistral's own loading does not."""
    for_mistral = "params.json" in names and any(MISTRAL_TOKENIZER.fullmatch(name) for name in names)
    return for_mistral and not ("config.json" in names and any(TOKENIZER.fullmatch(name) for name in names))


@dataclass(frozen=True, slots=True)
class _Around:
    """What decides about one file beside its own name: the format that is taken, and the other files."""

    format: str
    wish: Wish
    indexed: frozenset[str] | None
    paths: frozenset[str]

    def wants(self, path: str) -> bool:
        found = format_of(path)
        if found == "none":
            return path in HEADS or (not self._is_another_index(path) and _is_small(path, self.wish.trust_remote_code))
        if "/" in path:
            return self._is_of_its_folder(path, found)
        if found != self.format or self._is_a_variant(path):
            return False
        return self.indexed is None or found != "safetensors" or path in self.indexed

    def _is_of_its_folder(self, path: str, found: str) -> bool:
        """A folder has its own format, safetensors before .bin: vLLM looks for them in this order."""
        folder = path.rpartition("/")[0]
        better = any(other.startswith(f"{folder}/") and other.endswith(".safetensors") for other in self.paths)
        return found == "safetensors" or (found == "bin" and not better)

    def _is_a_variant(self, path: str) -> bool:
        match = VARIANT.fullmatch(path)
        return match is not None and self.indexed is None and f"{match[1]}{match[3]}" in self.paths

    def _is_another_index(self, path: str) -> bool:
        """An index of a format that is not taken."""
        index = INDEX.fullmatch(path)
        return index is not None and format_of(index[1]) != self.format


def _is_small(path: str, trust_remote_code: bool) -> bool:
    name, parent = PurePosixPath(path).name, PurePosixPath(path).parent.as_posix()
    if name.startswith(".") or _matches(name, NOT_NEEDED):
        return False
    if name.endswith(".py"):
        return trust_remote_code
    if parent not in (".", "additional_chat_templates") and not READ_FOLDER.fullmatch(parent):
        return False
    return name.endswith(SMALL_SUFFIXES) or bool(MISTRAL_TOKENIZER.fullmatch(name))


def _order(file: RemoteFile) -> tuple[bool, str]:
    """Small files first: a gate, a wrong token or a full disk shows before the first shard."""
    return format_of(file.path) != "none", file.path


def _check(selection: Selection, wish: Wish, indexed: frozenset[str] | None, files: tuple[RemoteFile, ...]) -> None:
    if {file.path for file in selection.weights} == {"model.bin"} and any(
        _CTRANSLATE.fullmatch(file.path) for file in files
    ):
        raise WeightsError(
            Reason.WEIGHTS_MISSING,
            f"{wish.source} is a model of CTranslate2 (model.bin with its vocabulary), as faster-whisper takes it.",
            "Name the model that it was made from: vLLM loads the weights of Transformers.",
        )
    if selection.format == "none" or not selection.weights:
        asked = f" in the format {wish.load_format!r} (loadFormat)" if wish.load_format else ""
        patterns = " among the files that include and exclude leave" if wish.include or wish.exclude else ""
        where, remedy = near_miss(files)
        raise WeightsError(
            Reason.WEIGHTS_MISSING,
            f"{wish.source} holds no weights that vLLM can load{asked}{patterns}{where}.",
            f"{remedy}Name a source, or a revision of it, with .safetensors, .bin, .pt or .gguf files at its top (vLLM loads no .pth, .h5, .msgpack or "
            f"ONNX), or correct {'loadFormat, include or exclude' if wish.load_format else 'include and exclude'}.",
        )
    models = {GGUF_SHARD.sub("", file.path) for file in selection.weights}
    if selection.format == "gguf" and len(models) > 1:
        raise WeightsError(
            Reason.WEIGHTS_MISSING,
            f"The source holds {len(models)} GGUF models, {sorted(models)[0]} among them.",
            "Name one, with the configuration, by include: ['*Q4_K_M.gguf', '*.json'].",
        )
    if selection.format != "safetensors" or indexed is None:  # else the index says which there are
        _check_shards(selection, is_chosen=bool(wish.include or wish.exclude))


def _check_shards(selection: Selection, *, is_chosen: bool) -> None:
    """An upload that was broken off lacks shards that the names of the others promise. Stray ones beside a whole set pass."""
    sets: dict[tuple[str, str, str], int] = {}
    for file in (file for file in selection.weights if "/" not in file.path):
        match = SHARD.fullmatch(file.path)
        if match is None:
            return
        key = (match[1], match[3], match[4])
        sets[key] = sets.get(key, 0) + 1
    if sets and all(count < int(of) for (_, of, _), count in sets.items()):
        (stem, of, suffix), count = max(sets.items(), key=lambda item: item[1])
        raise WeightsError(
            Reason.WEIGHTS_MISSING,
            f"Of {of} shards that {stem}-*-of-{of}{suffix} promises, {count} are there.",
            ("Have include and exclude leave all of them. Where that is so, the" if is_chosen else "The")
            + " upload is not complete: finish it, or name another revision.",
        )
