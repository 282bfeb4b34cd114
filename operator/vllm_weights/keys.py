"""What a Secret brings for a bucket, looked at before anybody is asked: half a key sends a client looking elsewhere."""

from __future__ import annotations

import base64
import binascii
import json
import re
from collections.abc import Mapping

from vllm_weights.failure import Reason, WeightsError
from vllm_weights.grammar import Name

_KEY = re.compile(r"(?!(['\"]).*\1$)[ -~]*")
"""Printable ASCII in one line, and not between quotes. Stores choose their own alphabets."""
_IN_SECRET = "in the Secret that credentialsSecretRef names"
_SWITCHES = ("AWS_SKIP_SIGNATURE", "AWS_VIRTUAL_HOSTED_STYLE_REQUEST", "GOOGLE_SKIP_SIGNATURE")
YES = frozenset({"true", "1", "yes", "on", "y"})
_SAYS = YES | frozenset({"false", "0", "no", "off", "n", ""})
"""What the client library takes."""


def check_keys(name: Name, environment: Mapping[str, str]) -> None:
    """Raises InvalidToken for keys that cannot be any, and InvalidArgument for a switch that is neither on nor off."""
    of = f"{name.kind}://{name.bucket}"
    for switch in _SWITCHES:
        if environment.get(switch, "").strip().lower() not in _SAYS:
            raise WeightsError(
                Reason.INVALID_ARGUMENT,
                f"{switch} for {of} is {environment[switch][:40]!a}, neither true nor false.",
                f"Set it to true or false, or leave it out, {_IN_SECRET}.",
            )
    if name.kind == "s3":
        _check_amazons(of, {key: value.strip() for key, value in environment.items() if key.startswith("AWS_")})
    else:
        _check_googles(of, environment.get("GOOGLE_SERVICE_ACCOUNT_KEY", "").strip())


def _check_amazons(of: str, given: Mapping[str, str]) -> None:
    if given.get("AWS_SKIP_SIGNATURE", "").lower() in YES:
        return
    for key in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"):
        if not _KEY.fullmatch(given.get(key, "")):
            how = "it stands between quotes, has several lines, or letters that are not ASCII"
            raise _no_key(f"{key} for {of} is no key: {how}.", f"Put the key alone under {key}")
    name, secret = given.get("AWS_ACCESS_KEY_ID", ""), given.get("AWS_SECRET_ACCESS_KEY", "")
    session = given.get("AWS_SESSION_TOKEN") or given.get("AWS_TOKEN")
    missing = "AWS_SECRET_ACCESS_KEY" if name and not secret else "AWS_ACCESS_KEY_ID" if secret and not name else ""
    if name.startswith("ASIA") and not session:
        missing = "AWS_SESSION_TOKEN, which a temporary key (ASIA…) has"
    if missing:
        raise _no_key(f"The keys for {of} lack {missing}.", "Put it under this name")
    if name.startswith("AKIA") and session:
        raise _no_key(
            f"The keys for {of} do not belong together: AWS_ACCESS_KEY_ID is a lasting one (AKIA…), AWS_SESSION_TOKEN is of temporary ones.",
            "Remove AWS_SESSION_TOKEN, or put the three of one temporary key,",
        )


def _check_googles(of: str, key: str) -> None:
    if not key:
        return
    try:
        said = json.loads(key)
    except ValueError:
        how = "it is in base64 once more" if _is_packed(key) else "it is no JSON"
        raise _no_key(f"GOOGLE_SERVICE_ACCOUNT_KEY for {of} cannot be read: {how}.", _WHOLE_FILE) from None
    kind = said.get("type") if isinstance(said, dict) else None
    if isinstance(said, dict) and said.get("disable_oauth"):  # of an emulator, which asks for none
        return
    if not isinstance(said, dict) or not said.get("private_key") or not said.get("client_email"):
        how = (
            f"it is of the type {str(kind)[:40]!a}"
            if kind not in (None, "service_account")
            else "it has no private_key or no client_email"
        )
        raise _no_key(f"GOOGLE_SERVICE_ACCOUNT_KEY for {of} is no service account's key: {how}.", _WHOLE_FILE)
    if not _can_be_read(str(said["private_key"])):
        # Google's own file has line ends there; who escapes it once more, for a shell or a template, makes letters of them.
        how = "its lines end in \\n written out" if "\\n" in said["private_key"] else "it is cut off, or changed"
        raise _no_key(f"The private_key in GOOGLE_SERVICE_ACCOUNT_KEY for {of} cannot be read: {how}.", _WHOLE_FILE)


def _can_be_read(pem: str) -> bool:
    """Whether a key is one. Asked here, since the client library shows its bytes in what it says of one that is none."""
    from cryptography.exceptions import UnsupportedAlgorithm  # It takes long to load.
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    try:
        load_pem_private_key(pem.encode(), None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        return False
    return True


_WHOLE_FILE = "Put the JSON of a service account's key, as Google gives it, under GOOGLE_SERVICE_ACCOUNT_KEY"


def _is_packed(key: str) -> bool:
    try:
        return base64.b64decode("".join(key.split()), validate=True).lstrip()[:1] == b"{"
    except (binascii.Error, ValueError):
        return False


def _no_key(message: str, remedy: str) -> WeightsError:
    return WeightsError(Reason.INVALID_TOKEN, message, f"{remedy} {_IN_SECRET}.")
