"""The certificate that a server shows: whose it is and who vouches for it, which a handshake that fails does not tell."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Iterator
from urllib.parse import urlsplit

PROBE_SECONDS = 1.5
_COMMON_NAME, _ORGANIZATION = b"\x55\x04\x03", b"\x55\x04\x0a"
_VERSION, _UTF16 = 0xA0, 0x1E
_MOST = 80
"""Characters of a name that are quoted."""


def shown_by(url: str) -> tuple[str, str]:
    """The names of a server's certificate and of its issuer; empty where they cannot be had. One connection, nothing is sent in it."""
    parts = urlsplit(url)
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    name = parts.hostname or ""
    try:
        with (
            socket.create_connection((name, parts.port or 443), PROBE_SECONDS) as connection,
            context.wrap_socket(connection, server_hostname=name) as encrypted,
        ):
            return names_in(encrypted.getpeercert(binary_form=True) or b"")
    except (OSError, ValueError):
        return "", ""


def names_in(certificate: bytes) -> tuple[str, str]:
    """Subject and issuer of a certificate in DER; empty where it is none."""
    try:
        signed = next(_parts(certificate, 0, len(certificate)))
        body = next(_parts(certificate, *signed[1:]))
        fields = [field for field in _parts(certificate, *body[1:]) if field[0] != _VERSION]
        return _name(certificate, *fields[4][1:]), _name(certificate, *fields[2][1:])
    except (IndexError, StopIteration, ValueError):
        return "", ""


def _parts(der: bytes, at: int, end: int) -> Iterator[tuple[int, int, int]]:
    """The tag, beginning and end of each value that lies side by side."""
    while at < end:
        tag, length, at = der[at], der[at + 1], at + 2
        if length & 0x80:
            count = length & 0x7F
            length, at = int.from_bytes(der[at : at + count]), at + count
        if at + length > end:
            raise ValueError("cut off")
        yield tag, at, at + length
        at += length


def _name(der: bytes, start: int, end: int) -> str:
    """Its common name, else its organization."""
    found: dict[bytes, str] = {}
    for _, begin, stop in _parts(der, start, end):
        for _, inner, until in _parts(der, begin, stop):
            (_, kind, kind_end), (tag, text, text_end) = list(_parts(der, inner, until))[:2]
            value = der[text:text_end].decode("utf-16-be" if tag == _UTF16 else "utf-8", "replace")
            found.setdefault(der[kind:kind_end], value)
    said = found.get(_COMMON_NAME) or found.get(_ORGANIZATION, "")
    return "".join(c if c.isprintable() else " " for c in said)[:_MOST].strip()
