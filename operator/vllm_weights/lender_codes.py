"""Words of those who lend credentials for object stores: what each means, and what helps."""

from __future__ import annotations

from vllm_weights.failure import Reason
from vllm_weights.store_codes import GIVE_KEYS, said

_LENT_NONE = "gets no credentials, as this pod's identity is refused"

LENT = (
    said(
        r"No OpenIDConnect provider found",
        Reason.INVALID_TOKEN,
        _LENT_NONE,
        "Register the cluster's issuer, which is named, as an OIDC provider in IAM of the account that the role is in.",
    ),
    said(
        r"(?i)verification key from your identity provider|IDPCommunicationError",
        Reason.HUB_UNREACHABLE,
        _LENT_NONE,
        "AWS cannot fetch the keys of the cluster's issuer: have its address (discovery document and JWKS) reachable from outside.",
    ),
    said(
        r"(?i)token audience|\baudience\b",
        Reason.INVALID_TOKEN,
        _LENT_NONE,
        "Have the audience of the service account's token (sts.amazonaws.com, by the annotation or the projected volume) among those of the OIDC provider in IAM.",
    ),
    said(
        r"(?i)\bARN is invalid|ValidationError\b.{0,200}\barn\b",
        Reason.INVALID_TOKEN,
        _LENT_NONE,
        "Correct the role in the service account's annotation (eks.amazonaws.com/role-arn): arn:aws:iam::ACCOUNT:role/NAME.",
    ),
    said(
        r"ExpiredToken|(?i:token (?:has )?expired)",
        Reason.HUB_UNREACHABLE,
        _LENT_NONE,
        "The token of the pod is too old: the next try is a new pod with a fresh one. Where it stays so, have the clock of the node looked at.",
    ),
    said(
        r"(?i)no (?:pod identity )?association found|ResourceNotFoundException",
        Reason.INVALID_TOKEN,
        _LENT_NONE,
        "Create the Pod Identity association of this namespace and service account with a role, or name a Secret in credentialsSecretRef.",
    ),
    said(
        r"invalid_grant|Invalid JWT Signature",
        Reason.INVALID_TOKEN,
        "does not accept the credentials",
        GIVE_KEYS,
    ),
)
"""What those say who lend credentials, where it tells more than that they refuse."""
