"""TLS: the authorities that are trusted, and what a handshake fails of."""

from __future__ import annotations

import re
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from vllm_weights.failure import Reason, WeightsError

TRUSTED = "SSL_CERT_FILE"
_PEM = b"-----BEGIN CERTIFICATE-----"
_CERTIFICATES = (
    (
        re.compile(r"(?i)expired|not yet valid|NotValidYet"),
        "whose time is over, or has not come",
        "Have whoever runs it renew the certificate; where it is valid by its dates, have the node's clock set right.",
    ),
    (
        re.compile(r"(?i)mismatch|not valid for|NotValidForName|doesn't match"),
        "that is made out for another name",
        "Mend the address, or have the certificate made out for the name in it.",
    ),
)


@dataclass(frozen=True, slots=True)
class _Said:
    """Words of OpenSSL or rustls about a handshake, and what they mean."""

    words: re.Pattern[str]
    reason: Reason
    how: str
    remedy: str


_HANDSHAKES = tuple(
    _Said(re.compile(words), reason, how, remedy)
    for words, reason, how, remedy in (
        (
            r"(?i)CERTIFICATE_?REQUIRED|BAD_CERTIFICATE|BadCertificate",
            Reason.HUB_REFUSED,
            "wants a certificate of the client, which downloads have none of",
            "Have an address set that asks for none (the platform's settings), or have whoever runs the server let this cluster in without one.",
        ),
        (
            r"(?i)PROTOCOL_?VERSION|UNSUPPORTED_PROTOCOL|WRONG_SSL_VERSION|PeerIncompatible",
            Reason.HUB_REFUSED,
            "speaks a version of TLS that is refused here",
            "Have whoever runs it turn on TLS 1.2 or 1.3, or have another address set in the platform's settings.",
        ),
        (
            r"(?i)HANDSHAKE_?FAILURE|NO_SHARED_CIPHER|DH_KEY_TOO_SMALL|EE_KEY_TOO_SMALL|CA_MD_TOO_WEAK|UNSAFE_LEGACY|INSUFFICIENT_?SECURITY",
            Reason.HUB_REFUSED,
            "and this program have no safe way of TLS in common, or it wants a certificate of the client, or knows no server of this name",
            "Check the host of its address in the platform's settings; have whoever runs it allow present ciphers and keys (TLS 1.2 or 1.3) and "
            "ask for no certificate, or have another address set.",
        ),
        (
            r"(?i)UNRECOGNI[SZ]ED_?NAME|ALERT_INTERNAL_ERROR",
            Reason.HUB_UNREACHABLE,
            "breaks TLS off, as gateways do that know no server of this name",
            "Correct the host of its address in the platform's settings, or have the name added to the gateway that answers.",
        ),
        (
            r"(?i)ALERT_?ACCESS_DENIED|fatal alert: AccessDenied",
            Reason.HUB_REFUSED,
            "denies the connection while TLS begins",
            "Ask who runs it, or the gateway before it, to let this cluster in.",
        ),
    )
)


def check_trusted(environment: Mapping[str, str]) -> None:
    """Looks at the file of trusted certificates before anything is sent. Raises InvalidArgument for one that cannot be used."""
    file = environment.get(TRUSTED, "")
    if not file:
        return
    try:
        ssl.create_default_context(cafile=file)
    except (OSError, ValueError):  # SSLError is an OSError.
        raise WeightsError(
            Reason.INVALID_ARGUMENT,
            f"The certificates that the platform trusts cannot be used: the file {_fault(Path(file))}.",
            "Have the ConfigMap that sources.trustedCertificates of the platform's settings names hold whole certificates in PEM "
            "(-----BEGIN CERTIFICATE----- …) under its key, in this namespace.",
        ) from None


def _fault(file: Path) -> str:
    try:
        content = file.read_bytes()
    except OSError as error:
        return f"cannot be read ({error.strerror or type(error).__name__})"
    if not content.strip():
        return "is empty"
    if _PEM not in content:
        return "is DER, not PEM" if content[:1] == b"\x30" else "holds no certificate in PEM"
    return "is broken PEM"


def failure(host: str, why: str) -> WeightsError | None:
    """What a handshake with `host` failed of, by the words of a library; None where they tell of none."""
    if "CERTIFICATE_VERIFY_FAILED" in why:
        return not_trusted(host, why)
    if "WRONG_VERSION_NUMBER" in why:
        return WeightsError(
            Reason.HUB_UNREACHABLE,
            f"{host} does not speak TLS: {why}.",
            "If it speaks plain HTTP its address in the platform's settings begins with http://; else mend host and port.",
        )
    for said in _HANDSHAKES:
        if said.words.search(why):
            return WeightsError(said.reason, f"{host} {said.how}: {why}.", said.remedy)
    return None


def not_trusted(host: str, why: str) -> WeightsError:
    """A certificate that is refused, by what is wrong with it."""
    for words, what, remedy in _CERTIFICATES:
        if words.search(why):
            return WeightsError(Reason.HUB_UNREACHABLE, f"{host} shows a certificate {what}: {why}.", remedy)
    return WeightsError(
        Reason.HUB_UNREACHABLE,
        f"{host} shows a certificate of an authority that is not trusted: {why}.",
        "Have the platform name the authority (sources.trustedCertificates of its settings), or mend the address.",
    )
