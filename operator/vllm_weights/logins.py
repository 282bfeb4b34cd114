"""A 401 of the hub or of a mirror that is about who asks: by a token, or by the user and password of a login of its own."""

from __future__ import annotations

import re

import httpx2

from vllm_weights import wire
from vllm_weights.failure import Reason, WeightsError

BAD_TOKEN = "Invalid credentials in Authorization header"
"""The hub's words: a 401 with them is about the token, any other one about the repository."""
_BASIC = re.compile(r"(?i)\bbasic\b")
_OWN_WORDS = ("X-Error-Message", "X-Error-Code")
_IN_ADDRESS = "have hub.endpoint of the platform's settings hold them (USER:PASSWORD@ before its host)"


def is_a_gates(response: httpx2.Response) -> bool:
    """Whether a user and password are wanted, as no hub wants them: of a gate, or of a mirror's own login."""
    in_hubs_words = any(name in response.headers for name in _OWN_WORDS)
    return not in_hubs_words and bool(_BASIC.search(response.headers.get("WWW-Authenticate", "")))


def refused(
    response: httpx2.Response, host: str, *, is_the_hub: bool, has_token: bool, has_login: bool
) -> WeightsError:
    """InvalidToken, by what was sent: a login in the address goes before a token, and a token opens no Basic login."""
    said = "" if response.headers.get("X-Error-Message") == BAD_TOKEN else wire.what_it_says(response)
    words = f" ({said})" if said else ""
    wants_password = not is_the_hub and bool(_BASIC.search(response.headers.get("WWW-Authenticate", "")))
    if is_the_hub and is_a_gates(response):
        return WeightsError(
            Reason.HUB_REFUSED,
            f"What is before {host} wants a user and password (HTTP 401, Basic){words}, which the hub never does.",
            f"Ask who runs the way out (a proxy, a gateway) to let these pods through to {host}, or have a mirror set (hub.endpoint of the "
            "platform's settings).",
        )
    if by_gate := _of_a_gate(response, host, said, words):
        return by_gate
    if has_login:
        return WeightsError(
            Reason.INVALID_TOKEN,
            f"{host} does not accept the user and password of its address{words}.",
            "Have hub.endpoint of the platform's settings hold the right ones; where a token is to be sent, none of them: an address with "
            "a login goes before tokenSecretRef.",
        )
    if wants_password:
        return _wants_password(host, words, has_token)
    if not has_token:
        return WeightsError(
            Reason.INVALID_TOKEN,
            f"{host} wants a login, and no token is given (HTTP 401){words}.",
            f"Name a Secret with a token of {host} in tokenSecretRef (HF_TOKEN); where it wants a user and password, {_IN_ADDRESS}; or have "
            "it name a mirror that wants none.",
        )
    where = f" (https://{host}/settings/tokens)" if is_the_hub else ""
    whose = (
        ""
        if is_the_hub
        else f": one of {host}'s own, or, where it passes tokens on to the hub that it mirrors, one of the hub's"
    )
    return WeightsError(
        Reason.INVALID_TOKEN,
        f"{host} does not accept the token: it is wrong, expired or revoked{words}.",
        f"{'Where these words name a fault of their own, mend that. Else put' if words else 'Put'} a valid token with read access into the secret"
        f"{where}{whose}.",
    )


def _of_a_gate(response: httpx2.Response, host: str, said: str, words: str) -> WeightsError | None:
    """Of a mesh, or of a gateway that wants what no token and no password is."""
    if said.startswith("Jwt "):
        return WeightsError(
            Reason.HUB_REFUSED,
            f"The service mesh before {host} takes the token for one of its own, and refuses it (HTTP 401){words}.",
            f"Have the mesh's RequestAuthentication leave {host} out; the token itself may be right.",
        )
    kind = response.headers.get("WWW-Authenticate", "").partition(" ")[0]
    if kind and kind.lower() not in ("bearer", "basic") and not any(name in response.headers for name in _OWN_WORDS):
        return WeightsError(
            Reason.HUB_REFUSED,
            f"What is before {host} wants a login of another kind ({kind[:20]}) than a token or a password{words}.",
            "Ask who runs it (a gateway, as a rule) to let these pods through without, or by a token (Bearer) or a user and password; or have "
            "hub.endpoint of the platform's settings name another address.",
        )
    return None


def _wants_password(host: str, words: str, has_token: bool) -> WeightsError:
    given = "a token, which it does not take" if has_token else "none"
    token = (
        "put one that it knows into the secret"
        if has_token
        else "name a Secret with one of its own in tokenSecretRef (HF_TOKEN)"
    )
    return WeightsError(
        Reason.INVALID_TOKEN,
        f"{host} wants a user and password (HTTP 401, Basic), and is given {given}{words}.",
        f"To give them, {_IN_ADDRESS}, or have whoever runs {host} let this cluster in without a login. Where it takes tokens as well "
        f"(Artifactory, Nexus), {token}.",
    )
