"""The certificate that a server shows: whose it is and who vouches for it, which a handshake that fails does not tell."""

from __future__ import annotations

import socket
import ssl
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from cryptography import x509

PROBE_SECONDS = 1.5
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
    from cryptography import x509  # It takes long to load, and few pulls meet a certificate that is refused.

    try:
        read = x509.load_der_x509_certificate(certificate)
        return _name(read.subject), _name(read.issuer)
    except (ValueError, x509.InvalidVersion):
        return "", ""


def _name(of: x509.Name) -> str:
    """Its common name, else its organization."""
    from cryptography.x509.oid import NameOID

    found = of.get_attributes_for_oid(NameOID.COMMON_NAME) or of.get_attributes_for_oid(NameOID.ORGANIZATION_NAME)
    said = str(found[0].value) if found else ""
    return "".join(c if c.isprintable() else " " for c in said)[:_MOST].strip()
