"""Those who lend credentials for object stores (metadata services, STS, agents): what they say, and what helps."""

from __future__ import annotations

import re
from urllib.parse import urlsplit

from vllm_weights import proxies
from vllm_weights.failure import Reason, WeightsError
from vllm_weights.store_codes import GIVE_KEYS, NAME_KEYS, said
from vllm_weights.store_words import ADDRESS, with_cause

_LENT_NONE = "gets no credentials, as this pod's identity is refused"

LENT = (
    said(
        r"Throttl|RequestLimitExceeded|(?i:rate exceeded|too many requests)",
        Reason.HUB_RATE_LIMITED,
        "gets no credentials, as who lends them limits the rate of requests",
        "Wait: it is tried again. Where many pods start at once, start fewer.",
    ),
    said(
        r"RegionDisabled",
        Reason.HUB_REFUSED,
        "gets no credentials, as they are not lent in this region",
        "Have STS of this region activated in the account (account settings of IAM), or set AWS_REGION to one where it is.",
    ),
    said(
        r"(?i)Gaia id not found|IAM returned 404",
        Reason.INVALID_TOKEN,
        "gets no credentials, as the account that it is to stand for does not exist",
        "Correct the annotation of the service account (iam.gke.io/gcp-service-account), or create the account that it names.",
    ),
    said(
        r"(?i)thumbprint",
        Reason.INVALID_TOKEN,
        _LENT_NONE,
        "Renew the thumbprint of the cluster's OIDC provider in IAM: the issuer has another certificate than it was made with.",
    ),
    said(
        r"(?i)not a valid JWT|(?:token|jwt)\b.{0,40}\b(?:malformed|not be parsed|no JWT)|cannot be empty",
        Reason.INVALID_TOKEN,
        "gets no credentials, as what it shows is no token of a service account",
        "Have AWS_WEB_IDENTITY_TOKEN_FILE name the projected token of the service account (the webhook of the cloud sets it), and nothing else.",
    ),
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
        r"InvalidIdentityToken|IDPRejectedClaim",
        Reason.INVALID_TOKEN,
        _LENT_NONE,
        "It is the token that is refused, not yet the role: see that the OIDC provider in IAM, of the account that the role is in, is this cluster's "
        "(its issuer, audience and keys), and that the role's ARN names that account.",
    ),
    said(
        r"invalid_grant|Invalid JWT Signature",
        Reason.INVALID_TOKEN,
        "does not accept the credentials",
        GIVE_KEYS,
    ),
)
"""What those say who lend credentials, where it tells more than that they refuse."""

_LENDER = re.compile(
    r"Error performing [A-Z]{3,6} https?://(?:169\.254\.|\[fd00:ec2|metadata[./:]|sts[.-]|iamcredentials\.|oauth2\.|[^\s?]{0,200}(?:/latest/|/computeMetadata/)"
    r"|\S{0,400}Action=AssumeRole)|Error performing POST REDACTED|sts:AssumeRole|InstanceCredential|TokenRequest"
)
"""Not the store was asked, but who lends credentials: a node's or cluster's metadata service, or a cloud's for tokens."""
_HIDDEN = "POST REDACTED"
"""The library's words for the address of who lends roles, since the pod's token stands behind it."""
_OF_THE_NODE = re.compile(r"//169\.254\.169\.254|/latest/(?:api/token|meta-data)|/computeMetadata/")
"""Asked where no other credentials are given."""
_LENDERS_ADDRESS = re.compile(r"Error performing [A-Z]{3,6} (https?://[^\s?]{1,300})")
_ON_THE_NODE = re.compile(r"//(?:169\.254\.|\[fd00:ec2|metadata(?:\.google\.internal)?[:/])")


def is_of_a_lender(whole: str) -> bool:
    """Whether not the store was asked, but who lends credentials for it."""
    return _LENDER.search(whole) is not None


def failure(whole: str, status: int, where: str, short: str, lender: str) -> WeightsError:
    """What their refusal, or their silence (status 0), means. `lender` is the host behind an address that the library hides."""
    short = short.replace(_HIDDEN, f"POST https://{lender}") if lender else short
    if of_proxy := _of_a_proxy(whole, where, short):
        return of_proxy
    said = ADDRESS.sub("", whole)
    if known := next((row for row in LENT if row.words.search(said)), None):
        return WeightsError(known.reason, f"{where} {known.how}: {short}", known.remedy)
    return _not_lent(status, whole, where, short)


def _of_a_proxy(whole: str, where: str, short: str) -> WeightsError | None:
    """Of credentials that a node lends, asked for by way of a proxy, which is not on the node; None where none is on the way."""
    found = _LENDERS_ADDRESS.search(whole)
    through = proxies.on_the_way(found[1]) if found else None
    if found is None or through is None:
        return None
    host, is_near = urlsplit(found[1]).hostname, _ON_THE_NODE.search(found[1])
    if is_near:
        remedy = (
            f"Have NO_PROXY name {host}, which is on the node, where no proxy reaches it; or, where the node lends nothing, name a Secret in "
            "credentialsSecretRef."
        )
    else:
        remedy = f"Have {through} let these pods through to {host}, or have NO_PROXY name it where it may be reached without."
    message = f"{where}: no credentials can be had by way of {through}: {short}"
    return WeightsError(Reason.HUB_REFUSED, message, remedy)


def _not_lent(status: int, whole: str, where: str, short: str) -> WeightsError:
    """Of who lends credentials. The store itself has not been asked."""
    if status >= 500 or status in (408, 429):
        remedy = "It is tried again; where that does not help, look at the service that lends credentials on this node."
        return WeightsError(Reason.HUB_UNREACHABLE, f"{where}: no credentials can be had: {short}", remedy)
    is_of_google = "/computeMetadata/" in whole  # which also says 403 of an identity that it knows and may not lend
    if _OF_THE_NODE.search(whole) and (not is_of_google or status in (0, 404)):
        return WeightsError(
            Reason.INVALID_TOKEN,
            f"{where} needs credentials: none are given, and the node lends none ({short}).",
            f"{NAME_KEYS} Where the node's own role may read it, let pods reach the node's metadata service.",
        )
    if status == 0 and "//169.254.170.23" in whole:
        remedy = "See that the Pod Identity Agent (the add-on eks-pod-identity-agent) runs on this node, and that the namespace may reach 169.254.170.23."
        return WeightsError(
            Reason.HUB_UNREACHABLE, f"{where}: no credentials can be had: {with_cause(whole, short)}", remedy
        )
    if status == 0:
        remedy = (
            "Let the namespace reach the service that lends credentials (NetworkPolicy, proxy variables, its endpoint for the region): "
            "for a role of a service account that is sts.REGION.amazonaws.com. A private network without a way out needs an endpoint of its own for it."
        )
        why = with_cause(whole, short)
        return WeightsError(Reason.HUB_UNREACHABLE, f"{where}: no credentials can be had: {why}", remedy)
    return WeightsError(
        Reason.INVALID_TOKEN,
        f"{where}: this pod's identity is lent no credentials: {short}",
        "Where these words name a fault of their own, mend that; else let its service account have the role: the trust policy of the role or the "
        "association that names it (AWS), "
        "roles/iam.workloadIdentityUser (Google). The bucket's own policies have not been asked.",
    )
