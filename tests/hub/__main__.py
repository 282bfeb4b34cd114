"""`python -m tests.hub serve --root DIR [--port 8080] [--host 0.0.0.0] [--faults] [--line 100]`."""

from __future__ import annotations

import argparse
import signal
import sys
from pathlib import Path

from tests.hub.server import Hub


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.hub", description="Serves folders by the hub's protocol.")
    serve = parser.add_subparsers(dest="command", required=True).add_parser("serve")
    serve.add_argument("--root", type=Path, required=True, help="folder with <org>/<name> folders in it")
    serve.add_argument("--host", default="0.0.0.0")
    serve.add_argument("--port", type=int, default=8080, help="0: any free one, printed at the start")
    serve.add_argument("--faults", action="store_true", help="allow POST /_faults")
    serve.add_argument("--line", type=float, help="megabytes a second that all connections together get")
    given = parser.parse_args(argv)
    if not given.root.is_dir():
        parser.error(f"--root {given.root} is not a folder: create it, with one <org>/<name> folder per model")
    hub = Hub(given.root, given.host, given.port, given.faults, given.line and given.line * 1e6)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))  # A pod's first process ignores it otherwise.
    print(f"serving {', '.join(hub.repos.names()) or 'nothing yet'} on {hub.url}", flush=True)
    hub.serve_forever()
    return 0


if __name__ == "__main__":
    sys.exit(main())
