"""From a request to the exact files: source opened, revision resolved, files chosen. Where inspect and pull agree."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

from vllm_weights.failure import REFRESH, Reason, WeightsError
from vllm_weights.grammar import parse_source
from vllm_weights.listing import Listing, RemoteFile, Source, check_names, check_paths
from vllm_weights.opening import open_source
from vllm_weights.request import Request
from vllm_weights.selection import Selection, Wish, select, tokenizer_files
from vllm_weights.whole import read_whole

CONFIG_FILES = ("config.json", "params.json", "adapter_config.json")
INDEX = "model.safetensors.index.json"
BIN_INDEX = "pytorch_model.bin.index.json"
OTHER_FORMATS = ("pt", "gguf", "mistral")
"""Of `loadFormat`: those that leave the index of safetensors alone."""
LONGEST_INDEX_BYTES = 32 * 1024 * 1024
"""The longest known has 22 MiB; this much takes 170 MiB of memory."""
TOKENIZER_FOLDER = "tokenizer"
MOST_BYTES = 1 << 60


@dataclass(frozen=True, slots=True)
class Item:
    """One file to bring: where from, at which commit, and under which name it lies in the model's folder."""

    source: Source
    commit: str
    file: RemoteFile
    path: str


@dataclass(frozen=True, slots=True)
class TokenizerContents:
    source: Source
    commit: str
    files: tuple[RemoteFile, ...]


@dataclass(frozen=True, slots=True)
class Contents:
    """Everything known of one request before the first weight is read."""

    source: Source
    commit: str
    listing: Listing
    selection: Selection
    index_bytes: int | None
    tokenizer: TokenizerContents | None

    @property
    def items(self) -> tuple[Item, ...]:
        own = (Item(self.source, self.commit, file, file.path) for file in self.selection.files)
        if self.tokenizer is None:
            return tuple(own)
        other = self.tokenizer
        return (
            *(Item(other.source, other.commit, file, f"{TOKENIZER_FOLDER}/{file.path}") for file in other.files),
            *own,
        )


@contextmanager
def contents_of(request: Request, environment: Mapping[str, str]) -> Iterator[Contents]:
    """Opens the sources of a request for as long as the block runs. Raises WeightsError."""
    with ExitStack() as open_sources:
        wanted = _Wanted(request.source, request.revision, request.commit)
        source, listing = _opened(request, wanted, environment, open_sources)
        indexed, index_bytes = _index(source, listing, request)
        wish = Wish(request.include, request.exclude, request.trust_remote_code, request.load_format, request.source)
        selection = select(listing.files, wish, indexed)
        check_names(selection.files)
        _check_config(request, listing, selection)
        _check_choice(request, listing, selection, indexed)
        _check_other_index(source, listing, selection, request)
        tokenizer = _tokenizer(request, environment, open_sources)
        yield Contents(source, listing.commit, listing, selection, index_bytes, tokenizer)


@dataclass(frozen=True, slots=True)
class _Wanted:
    source: str
    revision: str | None
    commit: str | None


def _opened(
    request: Request, wanted: _Wanted, environment: Mapping[str, str], open_sources: ExitStack
) -> tuple[Source, Listing]:
    name = parse_source(wanted.source)
    source = open_source(name, environment, stall_seconds=request.stall_seconds, parallelism=request.parallelism)
    open_sources.callback(source.close)
    # Only a git commit can be asked for; elsewhere it is a hash of what was listed, to compare with.
    pinned = wanted.commit if name.kind == "hf" else None
    listing = source.listing(pinned or wanted.revision or name.revision)
    if wanted.commit and listing.commit != wanted.commit:
        raise WeightsError(
            Reason.REVISION_NOT_FOUND,
            f"{wanted.source} is at {listing.commit[:12]} and no longer at {wanted.commit[:12]}.",
            f"What was inspected is gone: {REFRESH}, and it is looked up again.",
        )
    check_paths(listing.files)
    return source, listing


def _tokenizer(request: Request, environment: Mapping[str, str], open_sources: ExitStack) -> TokenizerContents | None:
    asked = request.tokenizer
    if asked is None:
        return None
    wanted = _Wanted(asked.source, asked.revision, asked.commit)
    source, listing = _opened(request, wanted, environment, open_sources)
    files = tokenizer_files(listing.files, request.trust_remote_code)
    if not files:
        remedy = "Name a repository with a tokenizer.json."
        raise WeightsError(Reason.WEIGHTS_MISSING, f"{asked.source} holds no tokenizer.", remedy)
    check_names(files)
    return TokenizerContents(source, listing.commit, files)


def _index(source: Source, listing: Listing, request: Request) -> tuple[frozenset[str] | None, int | None]:
    """The shards that the index of safetensors names, and the bytes of tensors it says there are."""
    file = listing.file(INDEX)
    if file is None:
        return None, None
    named, total = _read_index(source, listing.commit, file)
    if named is not None and request.include is None and request.load_format not in OTHER_FORMATS:
        _check_that_all_are_there(INDEX, named, listing)
    return named, total


def _check_config(request: Request, listing: Listing, selection: Selection) -> None:
    """Raises WeightsMissing where nothing says what the weights are of. A GGUF file says so by itself."""
    if selection.format != "gguf" and not any(listing.file(name) for name in CONFIG_FILES):
        is_adapter = any(file.path.startswith("adapter_") for file in selection.weights)
        lacking = "adapter_config.json" if is_adapter else "config.json"
        raise WeightsError(
            Reason.WEIGHTS_MISSING,
            f"{request.source} holds weights, and no {lacking} to say of which model.",
            f"Upload {lacking} beside the weights, as save_pretrained writes it, or name a source that has it.",
        )


def _check_choice(request: Request, listing: Listing, selection: Selection, indexed: frozenset[str] | None) -> None:
    """Raises WeightsMissing where include and exclude leave out what vLLM cannot do without."""
    if request.include is None and request.exclude is None:
        return
    if selection.format == "safetensors":
        _check_that_all_are_taken(INDEX, indexed or frozenset(), selection, request)
    taken = {file.path for file in selection.files}
    # One that exclude names in full is left out on purpose, for a configuration from elsewhere.
    left_out = [name for name in CONFIG_FILES if listing.file(name) and name not in (request.exclude or ())]
    # A GGUF file says by itself what the model is.
    if selection.format != "gguf" and left_out and not taken.intersection(left_out):
        raise _left_out(f"{left_out[0]}, without which vLLM does not know the model", request)


def _check_that_all_are_taken(index: str, named: frozenset[str], selection: Selection, request: Request) -> None:
    """Shards of another set than the index's are taken as they are: only a part of its own is none."""
    taken = {file.path for file in selection.weights}
    missing = sorted(named - taken)
    if missing and named & taken:
        raise _left_out(f"{len(missing)} of {len(named)} files that {index} names, {missing[0]} among them", request)


def _left_out(what: str, request: Request) -> WeightsError:
    fields = [name for name in ("include", "exclude") if getattr(request, name) is not None]
    return WeightsError(
        Reason.WEIGHTS_MISSING,
        f"{' and '.join(f'download.{name}' for name in fields)} leave{'' if len(fields) > 1 else 's'} out {what}.",
        "Change that so that it is taken: include replaces the whole choice (*.json brings configuration and tokenizer), exclude takes from it.",
    )


def _check_other_index(source: Source, listing: Listing, selection: Selection, request: Request) -> None:
    """The index of .bin files decides about none of them; it tells that an upload is not complete."""
    file = next((file for file in selection.files if file.path == BIN_INDEX), None)
    if file is not None and selection.format == "bin":
        named, _ = _read_index(source, listing.commit, file)
        _check_that_all_are_there(BIN_INDEX, named or frozenset(), listing)
        _check_that_all_are_taken(BIN_INDEX, named or frozenset(), selection, request)


def _read_index(source: Source, commit: str, file: RemoteFile) -> tuple[frozenset[str] | None, int | None]:
    try:
        answer = json.loads(read_whole(source, commit, file, LONGEST_INDEX_BYTES))
        named = frozenset(str(shard) for shard in answer["weight_map"].values())
        metadata = answer.get("metadata")
        total = metadata.get("total_size") if isinstance(metadata, dict) else None
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None, None
    # Some tools write it as 1.0e10.
    if not isinstance(total, int | float) or isinstance(total, bool) or not 0 < total <= MOST_BYTES:
        return named, None
    return named, int(total)


def _check_that_all_are_there(index: str, named: frozenset[str], listing: Listing) -> None:
    missing = sorted(named - {file.path for file in listing.files})
    if missing:
        raise WeightsError(
            Reason.WEIGHTS_MISSING,
            f"{index} names {len(missing)} files that the source does not have, {missing[0]!r} among them.",
            "The upload is not complete: finish it, or name another revision.",
        )
