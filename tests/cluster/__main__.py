"""`python -m tests.cluster up|down|status|images|models|vllm-python|lock|kubectl`: see README.md beside this file."""

from __future__ import annotations

import argparse
import json
import os
import sys

from tests.cluster import images, lock, models, node, ownership, teardown, vllm_python
from tests.cluster.places import BINARIES, KUBECONFIG, ROOT
from tests.cluster.runtime import answers
from tests.cluster.steps import StepFailed


def _up(given: argparse.Namespace) -> int:
    node.up(() if given.no_images else tuple(images.ALL))
    return 0


def _down(_: argparse.Namespace) -> int:
    teardown.down()
    return 0


def _status(_: argparse.Namespace) -> int:
    text, ready = node.status()
    print(text)
    return 0 if ready else 1


def _images(given: argparse.Namespace) -> int:
    names = tuple(given.names or images.ALL)
    if given.names_only:
        found = images.references(names)
    else:
        on_node = not given.no_import and ownership.owner() == ROOT and answers()
        provide = images.put_on_node if on_node else images.build
        found = {name: provide(name) for name in names}
    print(json.dumps(found) if given.output == "json" else "\n".join(found.values()))
    return 0


def _models(_: argparse.Namespace) -> int:
    print(models.folder())
    return 0


def _vllm_python(_: argparse.Namespace) -> int:
    print(vllm_python.python())
    return 0


def _lock(_: argparse.Namespace) -> int:
    print("\n".join(lock.write()))
    return 0


def _kubectl(words: list[str]) -> None:
    """Becomes kubectl. Its options are not for our parser to read."""
    program = BINARIES / "kubectl"
    if not program.exists():
        raise StepFailed("the node is not up: python -m tests.cluster up")
    os.execv(program, ["kubectl", "--kubeconfig", str(KUBECONFIG), *words])


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m tests.cluster", description="A real Kubernetes node on this machine."
    )
    commands = parser.add_subparsers(dest="command", required=True)

    up = commands.add_parser("up", help="the node, Ready, with the project's images on it")
    up.add_argument("--no-images", action="store_true", help="only the node: a minute's work once Kubernetes is built")
    up.set_defaults(work=_up)
    commands.add_parser("down", help="leave nothing of it").set_defaults(work=_down)
    commands.add_parser("status", help="what runs; exit code 1 when it is not all of it").set_defaults(work=_status)

    listed = commands.add_parser(
        "images", help="build what changed, put it on the node if that is up, print the references"
    )
    listed.add_argument(
        "names", nargs="*", metavar="NAME", choices=[*images.ALL, []], help=f"of {', '.join(images.ALL)}; all"
    )
    listed.add_argument("--no-import", action="store_true", help="build, and leave the node alone")
    listed.add_argument("--names-only", action="store_true", help="print the references and build nothing")
    listed.add_argument("--output", choices=["json", "lines"], default="lines", help="an object by name, or one a line")
    listed.set_defaults(work=_images)

    commands.add_parser("models", help="make the demo's models and print their folder").set_defaults(work=_models)
    python = commands.add_parser(
        "vllm-python", help="install the real vLLM for CPU once and print its Python (VLLM_PYTHON)"
    )
    python.set_defaults(work=_vllm_python)
    commands.add_parser("lock", help="write images/*/lock.txt anew from pyproject.toml").set_defaults(work=_lock)
    commands.add_parser("kubectl", help="kubectl as the node's administrator; all that follows is kubectl's")
    return parser


def main(words: list[str]) -> int:
    """Runs one command; its exit code. A failed step is a message, not a traceback."""
    try:
        if words[:1] == ["kubectl"]:
            _kubectl(words[1:])
        given = _parser().parse_args(words)
        return int(given.work(given))
    except StepFailed as failed:
        print(failed, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("interrupted: the next `up` goes on from here, `down` removes what is there", file=sys.stderr)
        return 130


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
