"""What Secrets bring: a token is taken only as one can be, and none of it is ever printed."""

from __future__ import annotations

from collections.abc import Mapping

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
HIDDEN = "[hidden]"


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
        if token:
            return token
    return ""


def without_secrets(text: str, environment: Mapping[str, str]) -> str:
    """The text with nothing in it of what Secrets brought, as it stands there or as Python writes it."""
    for variable in SECRET:
        value = environment.get(variable, "")
        forms = {
            value,
            value.strip(),
            *value.split(),
            repr(value)[1:-1],
            repr(value.encode())[2:-1],
            ascii(value)[1:-1],
        }
        for form in sorted(forms, key=len, reverse=True):
            text = text.replace(form, HIDDEN) if len(form) >= SHORTEST else text
    return text
