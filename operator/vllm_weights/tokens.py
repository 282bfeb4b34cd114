"""What Secrets bring, and logins in addresses: a token is taken only as one can be, and none of it is ever printed."""

from __future__ import annotations

import base64
import re
from collections.abc import Iterator, Mapping
from contextlib import suppress
from urllib.parse import quote, unquote, urlsplit

from vllm_weights.failure import Reason, WeightsError

SECRET = (
    "HF_TOKEN",
    "HUGGING_FACE_HUB_TOKEN",
    "MODELSCOPE_API_TOKEN",
    "AWS_ACCESS_KEY_ID",
    "AWS_SECRET_ACCESS_KEY",
    "AWS_SESSION_TOKEN",
    "GOOGLE_SERVICE_ACCOUNT_KEY",
)
SHORTEST = 6
"""Characters; what is shorter is no secret, and may stand in any word."""
LONGEST_WORD = 16
"""Characters; of what is longer, the beginning alone is hidden, too, wherever somebody cut the rest off."""
KNOWN_BY = 8
HIDDEN = "[hidden]"
PROXIES = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy")
ENDPOINTS = ("HF_ENDPOINT", "MODELSCOPE_ENDPOINT", "AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3", "GOOGLE_BASE_URL")
SHORTEST_PIECE = 4
"""Of a password in an address, which libraries quote from one of its special characters to the next."""
_LOGIN = re.compile(r"(?i)\b(https?://|socks\w*://)[^\s/@'\"]+@")
_SIGNED = re.compile(
    r"(?i)([?&](?:X-Amz-(?:Signature|Credential|Security-Token)|X-Goog-(?:Signature|Credential)|Signature|Policy|Key-Pair-Id|sig|\w*token)=)[^\s&'\"]+"
)
"""What signs an address, and opens it to everybody."""
_BYTES = re.compile(r"\[(?:\d{1,3},\s*){7,}\d{1,3},?\s*\]?|-----BEGIN [A-Z ]{0,30}PRIVATE KEY-----[^\"']*")
"""What libraries write of a key that they cannot read: its bytes as numbers, or itself."""


def bare_token(environment: Mapping[str, str], *variables: str) -> str:
    """The token of the first variable that has one, without spaces around it; "" where there is none.

    Raises InvalidToken for what cannot be one: a header carries no line's end, no space and no typographic quote.
    """
    for variable in variables:
        token = environment.get(variable, "").strip()
        if token and not (token.isascii() and token.isprintable() and " " not in token):
            raise WeightsError(
                Reason.INVALID_TOKEN,
                f"The token in {variable} holds a character that no token has: a line's end, a space, or a letter or quote that is not ASCII.",
                "Put the bare token, in one line, into the Secret that tokenSecretRef names.",
            )
        if fault := _no_token(token):
            raise WeightsError(
                Reason.INVALID_TOKEN,
                f"The token in {variable} {fault}.",
                "Put the bare token into the Secret that tokenSecretRef names (Kubernetes itself encodes what stands under stringData).",
            )
        if token:
            return token
    return ""


def _no_token(token: str) -> str:
    """What is wrong with a token that somebody packed once more than needed; "" where nothing is."""
    if len(token) > 1 and token[0] == token[-1] and token[0] in "'\"":
        return "stands between quotes"
    if re.match(r"(?:export )?[A-Z][A-Z_]{2,40}=", token):
        return "begins with the name of a variable"
    with suppress(ValueError):
        if re.fullmatch(rb"(?:hf_|ms-)[\w-]{8,}\s*", base64.b64decode(token, validate=True)):
            return "is in base64 once more"
    return ""


def without_secrets(text: str, environment: Mapping[str, str]) -> str:
    """The text with nothing in it of what Secrets and addresses brought, as it stands there or as somebody writes it."""
    for form in sorted(_secrets(environment), key=len, reverse=True):
        text = text.replace(form, HIDDEN)
        if len(form) >= LONGEST_WORD:
            text = re.sub(re.escape(form[:KNOWN_BY]) + r"[^\s'\"]*", HIDDEN, text)
    text = _BYTES.sub(HIDDEN, text)
    return _SIGNED.sub(rf"\1{HIDDEN}", _LOGIN.sub(rf"\1{HIDDEN}@", text))


def _secrets(environment: Mapping[str, str]) -> set[str]:
    found: set[str] = set()
    for variable in SECRET:
        value = environment.get(variable, "")
        found |= {form for form in (*_written(value), *value.split()) if len(form) >= SHORTEST}
    for login in _logins(environment):
        password = login.partition(":")[2] or login
        pieces = {*re.split(r"[][#/?@:]", password), *re.split(r"[][#/?@:]|%[0-9A-Fa-f]{2}", password)}
        found |= {piece for piece in pieces if len(piece) >= SHORTEST_PIECE}
        in_headers = base64.b64encode(unquote(login).encode()).decode()
        for whole in (login, password, unquote(login), unquote(password), quote(password, safe=""), in_headers):
            found |= {form for form in _written(whole) if len(form) >= SHORTEST_PIECE}
    return found


def _written(value: str) -> set[str]:
    """A value as it stands there and as Python writes it."""
    return {value, value.strip(), repr(value)[1:-1], repr(value.encode())[2:-1], ascii(value)[1:-1]}


def _logins(environment: Mapping[str, str]) -> Iterator[str]:
    """What stands before the @ of each address, however little of an address it is."""
    for variable in (*PROXIES, *ENDPOINTS):
        rest = environment.get(variable, "").strip()
        rest = rest.partition("://")[2] or rest
        if "@" in rest:
            host = rest if variable in PROXIES else _before_the_path(environment[variable], rest)
            if "@" in host:
                yield host.rpartition("@")[0]
        elif ":" in rest and not rest.startswith("[") and not re.match(r"[^:]*:\d*(?:/|$)", rest):
            yield rest  # A login after which the host was forgotten.


def _before_the_path(endpoint: str, rest: str) -> str:
    """Login and host of an endpoint; all of `rest`, what follows its scheme, where nobody can tell the path from a password."""
    try:
        parts = urlsplit(endpoint.strip())
        _ = parts.port
    except ValueError:
        return rest
    return parts.netloc if parts.hostname else rest
