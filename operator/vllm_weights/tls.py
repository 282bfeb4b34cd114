"""TLS: the authorities that are trusted, and what a handshake fails of."""

from __future__ import annotations

import re
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from vllm_weights.addresses import bare, is_public
from vllm_weights.failure import Reason, WeightsError
from vllm_weights.shown import shown_by

TRUSTED = "SSL_CERT_FILE"
_PEM = b"-----BEGIN CERTIFICATE-----"
_OTHER_NAME = re.compile(r"(?i)mismatch|not valid for|NotValidForName|doesn't match")
_DEFAULT = re.compile(r"(?i)ingress controller fake certificate|traefik default cert|default backend")
_BUCKET = re.compile(r"\b(?:s3|gs)://")
_CERTIFICATES = (
    (
        re.compile(r"(?i)expired|not yet valid|NotValidYet"),
        "whose time is over, or has not come",
        "Have whoever runs it renew the certificate; where it is valid by its dates, have the node's clock set right.",
    ),
    (
        _OTHER_NAME,
        "that is made out for another name",
        "",
    ),
    (
        re.compile(r"CaUsedAsEndEntity"),
        "that is an authority's own, and no server's",
        "Have its certificate made anew as a server's (basicConstraints CA:FALSE, which openssl req -x509 by itself does not write); to trust it is not enough.",
    ),
    (
        re.compile(r"UnsupportedCertVersion"),
        "in an old form (X.509 before version 3)",
        "Have its certificate made anew in version 3, with a subjectAltName (openssl x509 -req wants -extfile for it); to trust it is not enough.",
    ),
    (
        re.compile(r"(?i)EkuError|RequiredEku|unsuitable certificate purpose|InvalidPurpose|invalid purpose"),
        "that is not made for servers",
        "Have its certificate made anew with extendedKeyUsage serverAuth; to trust it is not enough.",
    ),
    (
        re.compile(
            r"(?i)key too (?:small|weak)|md too weak|SignatureAlgorithm|BadSignature|signature failure|\brevoked\b"
        ),
        "that no client takes any more",
        "Have its certificate, or its authority's, made anew with a present key and signature (and not revoked). Where its authority was made anew "
        "under the same name, have the platform name the new one (sources.trustedCertificates).",
    ),
    (
        re.compile(
            r"(?i)missing (?:authority|subject) key identifier|basic constraints of CA|key usage extension|invalid CA cert|path ?len|NameConstraint|Other$"
        ),
        "that is not as certificates have to be",
        "Have it, or the authority behind it, made anew as the message says (version 3, subjectAltName, CA:FALSE for the server's, key usage for the authority's); where the "
        "authority is not named yet, have the platform name it (sources.trustedCertificates).",
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
            r"(?i)CERTIFICATE_?REQUIRED|BAD_CERTIFICATE|BadCertificate|required SSL certificate was sent",
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


def failure(host: str, why: str, url: str = "") -> WeightsError | None:
    """What a handshake with `host` failed of, by the words of a library; None where they tell of none.

    `url`: where its certificate may be looked at, no proxy being on the way.
    """
    if "CERTIFICATE_VERIFY_FAILED" in why:
        return not_trusted(host, why, url)
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


def not_trusted(host: str, why: str, url: str = "") -> WeightsError:
    """A certificate that is refused, by what is wrong with it, and by whose it is."""
    subject, issuer = shown_by(url) if url else ("", "")
    whose = f" (it is {subject or 'nobody'}'s, by {issuer or 'nobody'})" if subject or issuer else ""
    if _DEFAULT.search(subject) and is_public(host):  # DNS led to an ingress controller of ours.
        return WeightsError(
            Reason.HUB_UNREACHABLE,
            f"{host} shows an ingress controller's certificate{whose}: {why.rstrip('.')}.",
            _by_name(host),
        )
    if _DEFAULT.search(subject):
        return WeightsError(
            Reason.HUB_UNREACHABLE,
            f"{host} shows the certificate that an ingress controller has for names it knows nothing of{whose}: {why.rstrip('.')}.",
            f"Have whoever runs {bare(host)} give its ingress (or gateway) this host and a TLS Secret that exists, or mend the address in the "
            "platform's settings. To trust that certificate helps nobody.",
        )
    for words, what, remedy in _CERTIFICATES:
        if words.search(why):
            if words is _OTHER_NAME:
                remedy = _by_name(host)
            return WeightsError(
                Reason.HUB_UNREACHABLE, f"{host} shows a certificate {what}{whose}: {why.rstrip('.')}.", remedy
            )
    return WeightsError(
        Reason.HUB_UNREACHABLE,
        f"{host} shows a certificate of an authority that is not trusted{whose}: {why.rstrip('.')}.",
        "Have the platform name the authority (sources.trustedCertificates of its settings, which take the place of the public authorities: "
        "where those are wanted too, the file holds them as well), have the server send its whole chain where one between is missing, or mend the "
        "address.",
    )


def _by_name(host: str) -> str:
    name = (
        "the host in it" if _BUCKET.search(host) else bare(host)
    )  # Buckets are called by their name, not by their host.
    astray = f"DNS leads {name} elsewhere (a search domain with a wildcard, a resolver that redirects), or what is on the way (a proxy, a firewall) answers in its place"
    if is_public(host):
        return (
            f"The name is right, and the server is another: {astray}. Have that mended for these pods, or have a mirror set "
            "(hub.endpoint, sources.modelscope.endpoint of the platform's settings)."
        )
    if "to which" in host:
        return f"Have whoever redirects there mend the address, or have the certificate made out for {name}; where both are right, {astray}."
    return f"Mend the address in the platform's settings, or have the certificate made out for {name}; where both are right, {astray}."
