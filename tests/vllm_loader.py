"""Runs in vLLM's own Python: which files of a folder its loader opens, by folder and load format given as JSON on stdin."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path


def main() -> None:
    """Answers a list of file names for each folder, or the error's words."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # vLLM logs to stdout, too
    from vllm.config.load import LoadConfig
    from vllm.model_executor.model_loader.default_loader import DefaultModelLoader

    found: dict[str, list[str] | str] = {}
    for folder, load_format in json.load(sys.stdin).items():
        try:
            loader = DefaultModelLoader(LoadConfig(load_format=load_format))
            _, files, *_ = loader._prepare_weights(folder, None, None, True, None)
            found[folder] = sorted(Path(file).name for file in files)
        except (RuntimeError, FileNotFoundError) as error:
            found[folder] = str(error)
    print(json.dumps(found), file=answers, flush=True)


if __name__ == "__main__":
    main()
