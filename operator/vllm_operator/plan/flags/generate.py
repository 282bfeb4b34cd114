"""Writes down the flags of the vLLM whose Python runs this: `python generate.py > 0.32.json`.

It imports nothing of ours, because it runs inside vLLM's own environment. One flag a line, so that a new release
shows as a readable diff. Before them stand the names that flags take from a registry, which the parser does not list,
and the keys of the objects that flags take.
"""

from __future__ import annotations

import argparse
import dataclasses
import importlib
import json
import sys
from typing import Any


def parser_of_serve() -> argparse.ArgumentParser:
    """The parser of `vllm serve`, as the installed release builds it."""
    # 0.33, 0.32 and older releases keep it in different places.
    for package in ("common", "launchers", "openai"):
        try:
            module = importlib.import_module(f"vllm.entrypoints.{package}.cli_args")
        except ModuleNotFoundError:
            continue
        parser = importlib.import_module("vllm.utils.argparse_utils").FlexibleArgumentParser(prog="vllm serve")
        made: argparse.ArgumentParser = module.make_arg_parser(parser)
        return made
    raise SystemExit("this Python has no vLLM whose parser is known; run it with the Python of vLLM 0.32 or later")


def describe(action: argparse.Action) -> dict[str, Any]:
    """What is worth knowing of one flag: its other spellings and how many values it takes (0, 1, many)."""
    first, *others = sorted(action.option_strings, key=lambda text: (not text.startswith("--"), _is_negation(text)))
    many = action.nargs in {"+", "*"}
    line: dict[str, Any] = {"flag": first, "takes": "many" if many else 0 if action.nargs == 0 else 1}
    line |= {"also": sorted(others)} if others else {}
    line |= {"choices": [str(choice) for choice in action.choices]} if action.choices else {}
    return line


def _is_negation(text: str) -> bool:
    return text.startswith("--no-")


def flags() -> list[dict[str, Any]]:
    """All flags of `vllm serve`, by name."""
    actions = [action for action in parser_of_serve()._actions if action.option_strings]
    return sorted((describe(action) for action in actions), key=lambda line: str(line["flag"]))


def names() -> dict[str, list[str]]:
    """What may stand behind flags whose values are registered by name: the release's own, without plugins."""
    tools = importlib.import_module("vllm.tool_parsers").ToolParserManager.list_registered()
    reasons = importlib.import_module("vllm.reasoning").ReasoningParserManager.list_registered()
    modes = importlib.import_module("vllm.tokenizers.registry")._VLLM_TOKENIZERS
    backends = importlib.import_module("vllm.v1.attention.backends.registry").AttentionBackendEnum.__members__
    return {
        "--attention-backend": sorted(backends),
        "--reasoning-parser": sorted({*reasons, "none"}),
        "--tokenizer-mode": sorted({*modes, "auto"}),
        "--tool-call-parser": sorted(tools),
    }


def keys() -> dict[str, list[str]]:
    """The keys of the objects that flags take; vLLM refuses others."""
    config = importlib.import_module("vllm.config")
    kinds = {
        "--compilation-config": config.CompilationConfig,
        "--speculative-config": config.SpeculativeConfig,
        "--structured-outputs-config": config.StructuredOutputsConfig,
    }
    return {
        flag: sorted(field.name for field in dataclasses.fields(kind) if field.init) for flag, kind in kinds.items()
    }


def whole() -> str:
    """The file."""
    release = ".".join(importlib.import_module("vllm").__version__.split(".")[:2])
    parts = [f'"release": "{release}"']
    for title, table in (("names", names()), ("keys", keys())):
        lines = ",\n".join(f"{json.dumps(flag)}: {json.dumps(values)}" for flag, values in table.items())
        parts.append(f'"{title}": {{\n{lines}\n}}')
    lines = ",\n".join(json.dumps(line) for line in flags())
    return f'{{{", ".join(parts)}, "flags": [\n{lines}\n]}}\n'


def main() -> None:
    """Prints the file."""
    sys.stdout.write(whole())


if __name__ == "__main__":
    main()
