"""Weights that are there, and not where vLLM looks: in a folder further down, or packed."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import PurePosixPath

from vllm_weights.listing import RemoteFile

_WEIGHTS = frozenset({".safetensors", ".bin", ".gguf", ".pt"})
_PIPELINE = PurePosixPath("model_index.json")
_PACKED = re.compile(r"(?i)\.(?:tar(?:\.\w{1,4})?|tgz|tzst|zip|7z|rar)$")


def near_miss(files: Iterable[RemoteFile]) -> tuple[str, str]:
    """What to add to the sentence and to the remedy that the source holds no weights; empty where it really holds none."""
    paths = [PurePosixPath(file.path) for file in files]
    if _PIPELINE in paths:
        return (
            f": it is a pipeline of Diffusers ({_PIPELINE}), whose parts lie in its folders",
            "This server runs language models, and no pipelines that make images or films: name another repository in spec.model. ",
        )
    below = [path.parent.as_posix() for path in paths if path.suffix in _WEIGHTS and path.parent.name]
    if below:
        # The folder with a configuration is the model's, where other weights lie around.
        whole = [folder for folder in below if PurePosixPath(folder, "config.json") in set(paths)]
        folder = (whole or below)[0]
        remedy = (
            f"Of a bucket name that folder, …/{folder}, in spec.model; of a hub a repository that has them at its top. "
        )
        return f": some lie in its folder {folder}", remedy
    packed = next((path.as_posix() for path in paths if _PACKED.search(path.name)), "")
    if packed:
        return f": {packed} is packed", f"Unpack {packed} where it came from, and upload what is in it. "
    return "", ""
