"""A hub's 403 without a gate: of the token, of where we ask from, of what is asked for, or of somebody else's page."""

from __future__ import annotations

import re
from typing import Protocol

import httpx2

from vllm_weights import blame, proxies, wire
from vllm_weights.failure import REFRESH, Reason, WeightsError

_ACCOUNT = re.compile(r"(?i)\bquota\b|storage limit|\bbilling|\bpayment|\bplan\b")
_SIGN_ON = re.compile(r"(?i)\bSSO\b|\bSAML\b|single sign")
_BY_COUNTRY = re.compile(
    r"(?i)\b(?:region|countr(?:y|ies)|jurisdictions?|sanction\w*|embargo\w*|export|geo\w*|legal|territor\w+)\b"
)
_BY_ADDRESS = re.compile(r"(?i)\bIPs?\b|\baddress|\bnetwork|allow-?\s?list|proxy|firewall|\bVPN\b")
_BY_POLICY = re.compile(r"(?i)\bpolic(?:y|ies)\b|\bblocked\b|curation|quarantine|malware|\bunsafe\b")
_BY_A_MESH = re.compile(r"(?i)\bRBAC: access denied")
_MESHES = re.compile(r"(?i)(?:^|[, ])(?:istio-)?envoy$")
_LOCKED = re.compile(
    r"(?i)recurrent login failures|too many (?:failed )?(?:login|authentication)|temporarily (?:locked|blocked)"
)
_TOKEN = re.compile(r"(?i)\btokens?\b")
_LET_THROUGH = "where an allow-list of the hub or the organization, or a proxy on the way, refuses, ask who runs it to let the cluster through."
_READ_ACCESS = (
    "Give the token read access to this repository (fine-grained tokens list them one by one, and have a permission of their own for "
    "public gated ones)"
)


class Asker(Protocol):
    """Who is asked, and as whom."""

    @property
    def host(self) -> str: ...
    @property
    def has_token(self) -> bool: ...
    @property
    def is_the_hub(self) -> bool: ...


def denied(response: httpx2.Response, asked: Asker, what: str) -> WeightsError:
    """HubRefused or InvalidToken of a 403 about `what`: of the token where there is one, and the words are of nothing else."""
    told, said = response.headers.get("X-Error-Message", ""), wire.what_it_says(response)
    message = f"{asked.host} denies access to {what}: {said or 'HTTP 403'}."
    if not told and wire.is_page(response):
        return _by_page(response, asked, message, said)
    if not told and (gateways := _of_a_gateway(response, said, asked.host)):
        return WeightsError(Reason.HUB_REFUSED, message, gateways)
    if _LOCKED.search(said):
        return WeightsError(
            Reason.INVALID_TOKEN,
            message,
            f"Wrong logins came too often: correct the token or password that {asked.host} is shown, here and by whoever shares this address, and wait "
            f"until it lets in again; then {REFRESH}.",
        )
    if _ACCOUNT.search(said):
        return WeightsError(Reason.HUB_REFUSED, message, wire.ACCOUNT_REMEDY)
    if asked.has_token and _SIGN_ON.search(said):
        remedy = "Have the token's owner authorize it for the organization's single sign-on (SSO), or use a token that is; then "
        return WeightsError(Reason.INVALID_TOKEN, message, f"{remedy}{REFRESH}.")
    if remedy := _whatever_the_token(said, asked, is_own=bool(told)):
        return WeightsError(Reason.HUB_REFUSED, message, remedy)
    if not asked.has_token:
        return WeightsError(
            Reason.HUB_REFUSED, message, f"{_named(said)}If it is private, name a secret with a token; {_LET_THROUGH}"
        )
    return WeightsError(Reason.INVALID_TOKEN, message, f"{_named(said)}{_READ_ACCESS}; {_LET_THROUGH}")


def _named(said: str) -> str:
    return "Where these words name a fault of their own, mend that. Else: " if said else ""


def _of_a_gateway(response: httpx2.Response, said: str, host: str) -> str:
    """What helps where a mesh's or a cloud's gateway has answered by itself; "" where none has."""
    if _is_of_a_mesh(response, said):
        return (
            f"A policy of the service mesh before {host} refuses: have it (Istio's AuthorizationPolicy, or the like) let in the pods of this "
            "namespace."
        )
    if "MissingAuthenticationToken" in response.headers.get("x-amzn-errortype", ""):
        return (
            f"Amazon's API Gateway before {host} says so of a path that it does not have: have hub.endpoint of the platform's settings hold the "
            "whole path, its stage first."
        )
    return ""


def _is_of_a_mesh(response: httpx2.Response, said: str) -> bool:
    """Envoy's own words (Istio, Cilium), or none from it, or Linkerd's header."""
    is_envoy = _MESHES.search(response.headers.get("server", "")) and said.lower() in ("", "access denied")
    return bool(_BY_A_MESH.search(said) or is_envoy or "l5d-proxy-error" in response.headers)


def _whatever_the_token(said: str, asked: Asker, *, is_own: bool) -> str:
    """What helps where the words are of something else than this token; "" where they are not."""
    is_place, is_policy = _BY_ADDRESS.search(said), _BY_POLICY.search(said)
    if _BY_COUNTRY.search(said):
        return (
            f"{asked.host} does not give it to where this cluster asks from, and no token changes that: use another model, or a copy that may be "
            "used there (a mirror, a bucket, a volume); or have the cluster's way out lead through another place."
        )
    if not (is_place or is_policy):
        return ""
    if not asked.is_the_hub and not is_own:
        return f"Ask who runs {asked.host}, or its policies, to let this model and this cluster through; or use another model or source."
    token = "; see whether the token is one that it admits" if asked.has_token and _TOKEN.search(said) else ""
    if is_place:
        return (
            "Have the addresses that this cluster asks from put on the list of those that may (the hub's, the organization's, a proxy's on the way: "
            f"ask who runs it){token}; or use a copy that lies elsewhere."
        )
    return (
        f"Ask who runs that policy (the organization of the repository, the hub, a proxy or filter on the way) to let this model and this cluster "
        f"through{token}; or use another model or source."
    )


def _by_page(response: httpx2.Response, asked: Asker, message: str, said: str) -> WeightsError:
    through = proxies.on_the_way(str(response.url)) if response.url.scheme == "http" else None
    if through is not None:
        message = f"{message.rstrip('.')} (by way of {through}, which may be what answers)."
    is_no_account = through is not None or "cf-mitigated" in response.headers or _of_no_account(said)
    remedy = blame.refused_by_page(asked.host, response.headers, through) + ("" if is_no_account else _own_page(asked))
    return WeightsError(Reason.HUB_REFUSED, message, remedy)


def _of_no_account(said: str) -> bool:
    return any(words.search(said) for words in (_BY_COUNTRY, _BY_ADDRESS, _BY_POLICY))


def _own_page(asked: Asker) -> str:
    """Mirrors show pages of their own to an account that may not read; the hub shows none."""
    if asked.is_the_hub:
        return ""
    which = (
        "its account may read this repository"
        if asked.has_token
        else "a token is named (tokenSecretRef) that may read this repository"
    )
    return f" Where the page is {asked.host}'s own, see that {which}."
