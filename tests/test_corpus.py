"""What an earlier release accepted is read and wanted as before; the real API server's word on it is in test_admission.py."""

from __future__ import annotations

import pytest

from tests.corpus import body_of, kept, wanted_of
from vllm_operator.api import parse_strict


@pytest.mark.parametrize("name", sorted(kept()))
def test_an_object_of_an_earlier_release_is_read_and_its_servers_are_not_restarted(name: str) -> None:
    entry = kept()[name]
    body = body_of(entry)

    parse_strict({**body, "metadata": {"namespace": "default", "uid": "u", **body["metadata"]}})

    assert wanted_of(body) == entry["wanted"]
