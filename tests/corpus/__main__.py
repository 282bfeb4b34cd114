"""`python -m tests.corpus RELEASE` keeps what the present types accept: every example, and every good value of the admission tests."""

from __future__ import annotations

import sys

import yaml

from tests.admission_cases import GOOD, body, example_bodies
from tests.corpus import HERE, wanted_of


def main(words: list[str]) -> None:
    """Writes the file of one release. Refuses to change one that exists."""
    if len(words) != 1:
        sys.exit("usage: python -m tests.corpus RELEASE, such as v0.1")
    file = HERE / f"{words[0]}.yaml"
    if file.exists():
        sys.exit(f"{file.name} is kept as it is: what a release accepted does not change")
    bodies = {name: body(spec) for name, spec in GOOD.items()} | example_bodies()
    entries = {
        name: {"metadata": one["metadata"], "spec": one["spec"], "wanted": wanted_of(one)}
        for name, one in sorted(bodies.items())
    }
    file.write_text(yaml.safe_dump(entries, sort_keys=False, width=120, allow_unicode=True), "utf-8")
    print(f"{file.name}: {len(entries)} objects")


if __name__ == "__main__":
    main(sys.argv[1:])
