"""Before anything is taken: what a pull would bring, and what the model says of itself. A handful of requests."""

from __future__ import annotations

import base64
import json
import re
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import PurePosixPath
from typing import Any

from vllm_weights.contents import CONFIG_FILES, Contents, contents_of
from vllm_weights.failure import Reason, WeightsError
from vllm_weights.headers import Weights, weights_of
from vllm_weights.listing import RemoteFile
from vllm_weights.request import Request
from vllm_weights.selection import format_of, is_tokenizer, tokenizer_files
from vllm_weights.summary import Config, compact, quantization_of, reductions, tamed
from vllm_weights.termination import MOST_BYTES
from vllm_weights.whole import POINTER, POINTER_BYTES, is_pointer, pointer_in_place_of, read_start, read_whole

LONGEST_JSON_BYTES = 4 * 1024 * 1024
"""Of a JSON file that is read here; a tokenizer_config.json with every added token has about 1 MiB."""
_FRAMED = re.compile(rb"[0-9a-f]{1,8}(?:;chunk-signature=[0-9a-f]{64})?\r\n")
QUANTIZATION_FILES = ("hf_quant_config.json", "quantize_config.json")
SOURCES_AT_ONCE = 8
STALL_SECONDS = 20.0
"""A connection is given up at half of it: hubs that are busy take some seconds for a long list."""
SECOND_TRY_WITHIN_SECONDS = 20.0
MODEL_BYTES = 1600
"""What the model's own part needs for all that sizes are computed from; a plain Llama's has 900."""
ADAPTER_BYTES = 640
BRIEF = ("source", "commit", "bytes", "files", "format")
ENVELOPE_BYTES = 128
"""The braces and totals around several parts."""


@dataclass(frozen=True, slots=True)
class _Told:
    """What the small files of a model say."""

    config: Config
    quantization: Config
    tokenizer: Config
    weights: Weights


def inspect(requests: tuple[Request, ...], as_list: bool, environment: Mapping[str, str]) -> dict[str, Any]:
    """The answer for the termination message. Raises WeightsError."""
    with ThreadPoolExecutor(max_workers=SOURCES_AT_ONCE) as pool:
        found = list(pool.map(lambda request: _with_one_more_try(request, environment), requests))
    return sharing(found, MOST_BYTES) if as_list else fitting(*found[0], MOST_BYTES)


def _with_one_more_try(request: Request, environment: Mapping[str, str]) -> tuple[dict[str, Any], Config]:
    """A connection that breaks, or stays silent once, is tried again; not for long, since somebody waits for the answer."""
    started = time.monotonic()
    try:
        return _inspected(request, environment)
    except WeightsError as error:
        hub_is_down = error.reason is Reason.HUB_UNREACHABLE and error.retry_after is None
        if not hub_is_down or time.monotonic() - started > SECOND_TRY_WITHIN_SECONDS:
            raise
    time.sleep(min(0.5, request.backoff_seconds))
    try:
        return _inspected(request, environment)
    except WeightsError as error:
        raise error.for_good() from error


def _inspected(request: Request, environment: Mapping[str, str]) -> tuple[dict[str, Any], Config]:
    with contents_of(request.model_copy(update={"stall_seconds": STALL_SECONDS}), environment) as contents:
        told = _told(contents)
        return _answer(request, contents, told), _with_modelopt(told)


def _with_modelopt(told: _Told) -> Config:
    """Older checkpoints of ModelOpt tell their quantization in a file of its own; vLLM reads it as part of the other."""
    if told.config.get("quantization_config") is not None or "quantization" not in told.quantization:
        return told.config
    return told.config | {"quantization_config": told.quantization}


def _told(contents: Contents) -> _Told:
    with ThreadPoolExecutor(max_workers=4) as pool:
        config = pool.submit(_config, contents)
        quantization = pool.submit(_first_json, contents, QUANTIZATION_FILES)
        tokenizer = pool.submit(_tokenizer_config, contents)
        weights: Future[Weights] = pool.submit(_weights, contents)
        _check_small_ones(contents)
        return _Told(config.result(), quantization.result(), tokenizer.result(), weights.result())


def _answer(request: Request, contents: Contents, told: _Told) -> dict[str, Any]:
    selection, architectures = contents.selection, told.config.get("architectures")
    everything = [item.file for item in contents.items]
    answer: dict[str, Any] = {
        "version": 1,
        "ok": True,
        "source": request.source,
        "commit": contents.commit,
        "bytes": sum(file.size for file in everything),
        "files": len(everything),
        "largestFileBytes": max(file.size for file in everything),
        "format": selection.format,
        "quantization": quantization_of(told.config, told.quantization),
        "weights": {"totalBytes": told.weights.total_bytes, "parameters": told.weights.parameters},
        "hasTokenizer": any(is_tokenizer(file.path) for file in _tokenizer_side(contents)),
        "hasChatTemplate": _has_chat_template(contents, told.tokenizer),
        "customCode": "auto_map" in told.config or "auto_map" in told.tokenizer,
        "architectures": [str(name)[:96] for name in architectures][:4] if isinstance(architectures, list) else [],
    }
    if told.weights.sampled:
        answer["weights"]["sampled"] = True
    if contents.tokenizer is not None:
        answer["tokenizer"] = {"commit": contents.tokenizer.commit}
    return answer


def fitting(answer: dict[str, Any], config: Config, room: int) -> dict[str, Any]:
    """The answer with as much of the configuration as there is room for."""
    for reduced in reductions(config):
        whole = answer | {"config": reduced()}
        if len(compact(whole)) <= room:
            return whole
    return answer | {"config": {}}


def sharing(found: list[tuple[dict[str, Any], Config]], room: int) -> dict[str, Any]:
    """One answer for several parts. The first, the model, has what the others leave; they get briefer as they get more.

    Raises InvalidArgument where commit and size of each are too much.
    """
    totals = {key: sum(answer[key] for answer, _ in found) for key in ("bytes", "files")}
    (model, config), *rest = found
    shapes: tuple[Callable[[dict[str, Any], Config], dict[str, Any] | str], ...] = (
        lambda answer, config: fitting(answer, config, ADAPTER_BYTES),
        lambda answer, _: {key: answer[key] for key in BRIEF},
        lambda answer, _: _in_a_line(answer),
    )
    for shape in shapes:
        others = [shape(answer, config) for answer, config in rest]
        left = room - ENVELOPE_BYTES - sum(len(compact(other)) + 1 for other in others)
        if left >= MODEL_BYTES or (shape is shapes[-1] and len(compact(fitting(model, {}, left))) <= left):
            return {"version": 1, "ok": True, **totals, "parts": [fitting(model, config, left), *others]}
    raise WeightsError(
        Reason.INVALID_ARGUMENT,
        f"{len(found)} sources at once are more than one answer of {room} bytes can tell of.",
        "Split the adapters over several models: 64 fit.",
    )


def _in_a_line(answer: Mapping[str, Any]) -> str:
    """Commit and bytes as `COMMIT:BYTES`, the 40 digits of the commit in the 27 letters of URL-safe base 64."""
    commit = base64.urlsafe_b64encode(bytes.fromhex(answer["commit"])).decode().rstrip("=")
    return f"{commit}:{answer['bytes']}"


def _weights(contents: Contents) -> Weights:
    shards = contents.selection.weights
    if contents.selection.format not in ("safetensors", "mistral"):
        return Weights(sum(file.size for file in shards), {})
    return weights_of(contents.source, contents.commit, shards, contents.listing.parameters, contents.index_bytes)


def _config(contents: Contents) -> Config:
    """The first of CONFIG_FILES. Raises ModelConfigInvalid where vLLM would get it, and could not read it either."""
    file = next((file for name in CONFIG_FILES if (file := contents.listing.file(name))), None)
    if file is None:
        return {}
    told, fault = _json(contents, file)
    if fault and file.size <= LONGEST_JSON_BYTES and file in contents.selection.files:
        remedy = "Upload the file again, mended where it is broken there, too, or name another revision."
        raise WeightsError(Reason.MODEL_CONFIG_INVALID, f"{file.path} {fault}.", remedy)
    return told


def _first_json(contents: Contents, names: tuple[str, ...]) -> Config:
    found = next((file for name in names if (file := contents.listing.file(name))), None)
    return _json(contents, found)[0] if found else {}


def _json(contents: Contents, file: RemoteFile) -> tuple[Config, str]:
    """The object of a JSON file, empty where it holds none, and why it does not. Raises WeightsCorrupt for a pointer."""
    content = read_whole(contents.source, contents.commit, file, LONGEST_JSON_BYTES)
    if is_pointer(content):
        raise pointer_in_place_of(file)
    if _FRAMED.match(content):
        raise WeightsError(
            Reason.WEIGHTS_CORRUPT,
            f"{file.path} is stored with the frames of its upload (aws-chunked) in it, which this store did not take off.",
            "Upload all files again by a client that sends none (AWS_REQUEST_CHECKSUM_CALCULATION=when_required, or an older SDK), or to a newer "
            "release of the store.",
        )
    try:
        # A byte order mark is no JSON to those who open the file in vLLM.
        answer = json.loads(content.decode())
    except RecursionError:
        return {}, "is nested too deeply"
    except UnicodeDecodeError as error:
        return {}, f"is not UTF-8, and so no JSON: {error}; save it in that encoding"
    except ValueError as error:
        return {}, f"is not JSON: {str(error)[:200]}"
    return (tamed(answer), "") if isinstance(answer, dict) else ({}, "holds no JSON object")


def _check_small_ones(contents: Contents) -> None:
    """Weights that are empty, and pointers in the place of weights and tokenizers. Raises WeightsCorrupt.

    The headers of safetensors are read in any case.
    """
    for file in contents.selection.weights:
        if file.size == 0:
            remedy = "Upload the file again, or name another revision."
            raise WeightsError(Reason.WEIGHTS_CORRUPT, f"{file.path} is empty.", remedy)
    for item in contents.items:
        name = PurePosixPath(item.path).name
        is_weights = format_of(item.path) not in ("none", "safetensors", "mistral")
        if item.file.size in POINTER_BYTES and (is_weights or is_tokenizer(name)):
            content = read_start(item.source, item.commit, item.file, len(POINTER))
            if is_pointer(content):
                raise pointer_in_place_of(item.file)


def _tokenizer_side(contents: Contents) -> tuple[RemoteFile, ...]:
    """The files of the repository that the tokenizer comes from."""
    if contents.tokenizer is not None:
        return contents.tokenizer.files
    return tokenizer_files(contents.selection.files, trust_remote_code=True)


def _tokenizer_config(contents: Contents) -> Config:
    side = contents
    if contents.tokenizer is not None:
        side = replace(contents, source=contents.tokenizer.source, commit=contents.tokenizer.commit)
    file = next((file for file in _tokenizer_side(contents) if file.path == "tokenizer_config.json"), None)
    return _json(side, file)[0] if file else {}


def _has_chat_template(contents: Contents, tokenizer: Config) -> bool | None:
    """None where nothing can be said: Mistral's tokenizer brings its own chat format."""
    names = {file.path for file in _tokenizer_side(contents)}
    templates = {"chat_template.jinja", "chat_template.json", "additional_chat_templates/default.jinja"}
    if names & templates or tokenizer.get("chat_template"):
        return True
    return None if "tekken.json" in names else False
