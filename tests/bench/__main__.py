"""`make bench`: the operator's real process against a cluster at the wire, with many models, in less than three minutes."""

from __future__ import annotations

import argparse
import signal
import sys
from types import FrameType

from tests.bench.phases import REST_SECONDS, measure
from tests.bench.report import table
from tests.demo.shell import say


def main() -> int:
    """Prints the table; 1 when the operator did not get its models where they belong."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__)
    parser.add_argument("--models", type=int, default=100, metavar="N", help="how many (default 100)")
    parser.add_argument("--rest", type=float, default=REST_SECONDS, metavar="SECONDS", help="how long they rest")
    parser.add_argument("--nodes", type=int, default=0, metavar="N", help="weights on the disks of so many nodes")
    options = parser.parse_args()
    if options.models < 1:
        parser.error("--models: at least one")
    signal.signal(signal.SIGTERM, _end)  # so that what was started is ended, too
    try:
        measured = measure(options.models, say, rest=options.rest, nodes=options.nodes)
    except (TimeoutError, RuntimeError) as error:
        say(f"✗ {error}")
        return 1
    say(f"\n{table(measured)}")
    return 0


def _end(number: int, _: FrameType | None) -> None:
    sys.exit(128 + number)


if __name__ == "__main__":
    sys.exit(main())
