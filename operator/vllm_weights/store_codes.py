"""Words of object stores: what each means, and what helps.

A store's own code tells more than the status beside it: a 403 is not always about rights, and a 400 may pass. The first
that is found counts, so what is narrow stands before what is wide.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from vllm_weights.failure import Reason

GIVE_KEYS = (
    "Put valid keys of this store into the Secret that credentialsSecretRef names, correct the identity of the service account, or for a "
    "public bucket set AWS_SKIP_SIGNATURE or GOOGLE_SKIP_SIGNATURE to true; where these words name another fault, mend that."
)

NAME_KEYS = (
    "Name a Secret in credentialsSecretRef (AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or GOOGLE_SERVICE_ACCOUNT_KEY), give the service "
    "account an identity that may read it, or for a public bucket set AWS_SKIP_SIGNATURE or GOOGLE_SKIP_SIGNATURE to true."
)


@dataclass(frozen=True, slots=True)
class Said:
    """Words, and what is at fault where they are found."""

    words: re.Pattern[str]
    reason: Reason
    how: str
    remedy: str


def said(words: str, reason: Reason, how: str, remedy: str) -> Said:
    return Said(re.compile(words), reason, how, remedy)


_REFUSES = "refuses every request"
_NOT_GIVEN = "does not give an object"

CODES = (
    said(
        r"RequestTimeTooSkewed|RequestExpired|Signature (?:expired|not yet current)",
        Reason.HUB_REFUSED,
        _REFUSES,
        "Have the clock of the node set right, where it differs from the store's: the keys are not at fault.",
    ),
    said(
        r"AllAccessDisabled",
        Reason.HUB_REFUSED,
        _REFUSES,
        "The store has shut this bucket: ask its owner, or name another.",
    ),
    said(
        r"AccountProblem|InDebt|NotEntitled|UserSuspended|UserDisable|NotSignedUp|(?i:account ?disabled|billing account|billing is disabled|InArrears|overdue)",
        Reason.HUB_REFUSED,
        _REFUSES,
        "The store has shut the account (of these keys, or that pays for the bucket): ask its owner, or use another.",
    ),
    said(
        r"(?i)\bcap exceeded",
        Reason.HUB_REFUSED,
        _REFUSES,
        "The account's cap at the store is used up: have it raised, or wait until it begins anew.",
    ),
    said(
        r"InvalidObjectState",
        Reason.HUB_REFUSED,
        _NOT_GIVEN,
        "The object lies in an archive (Glacier): have it restored first.",
    ),
    said(
        r"vpcServiceControls|SecurityPolicyViolated|VPC Service Controls",
        Reason.HUB_REFUSED,
        _REFUSES,
        "Have the perimeter of VPC Service Controls let this cluster and identity through: the credentials are not at fault.",
    ),
    said(
        r"no VPC endpoint policy allows",
        Reason.HUB_REFUSED,
        _REFUSES,
        "Have the policy of the VPC endpoint on the cluster's way to the store allow it: the credentials are not at fault.",
    ),
    said(
        r"with an explicit deny",
        Reason.INVALID_TOKEN,
        "may not be read with these credentials",
        "Have the policy changed that denies it (the store's words say of which kind it is): another that allows does not help.",
    ),
    said(
        r"no (?:permissions boundary|service control policy|session policy|resource control policy) allows",
        Reason.INVALID_TOKEN,
        "may not be read with these credentials",
        "Have that policy of the account or the role (the words say which kind) allow it: what the identity itself is granted does not help.",
    ),
    said(
        r"(?i)\bIP filter|not allowed by bucket ip|\breferer\b|AccessDeniedByBucketIpFilter",
        Reason.HUB_REFUSED,
        _REFUSES,
        "The bucket lets in known addresses (or pages) alone: have those that this cluster asks from put on its list; the credentials are not at fault.",
    ),
    said(
        r"KMS\.(?:Disabled|InvalidState|KMSInvalidState|NotFound)\w*",
        Reason.HUB_REFUSED,
        _NOT_GIVEN,
        "The key that the objects are encrypted with is disabled or gone: have it enabled, or the objects encrypted anew.",
    ),
    said(
        r"\bkms:Decrypt\b|ciphertext refers to a customer master key|cloudkms\.cryptoKeyVersions|(?i:kms)\b.{0,80}(?:permission|not authorized|denied)",
        Reason.INVALID_TOKEN,
        "may not be read with these credentials",
        "Grant kms:Decrypt, on the key that the objects are encrypted with, to the identity that the words name (Google: the bucket's own service "
        "agent); a key of another account has to allow it in its own policy, too.",
    ),
    said(
        r"(?i)KMS is not configured|\bKMS\b.{0,60}(?:not (?:found|exist|configured)|unreachable)",
        Reason.HUB_REFUSED,
        _NOT_GIVEN,
        "The store cannot reach or does not know the keys (KMS) that its objects are encrypted with: have whoever runs it mend that.",
    ),
    said(
        r"(?i)form of Server Side Encryption|server-side-encryption-customer|SSECustomer",
        Reason.HUB_REFUSED,
        _NOT_GIVEN,
        "Its objects are encrypted with a key of the customer's own (SSE-C), which nobody gives here: store them with SSE-S3 or SSE-KMS.",
    ),
    said(
        r"(?i)HTTP request to an HTTPS server|must be made over a secure connection|plain HTTP request was sent to HTTPS port",
        Reason.HUB_REFUSED,
        "is asked in plain HTTP and wants TLS",
        "Have AWS_ENDPOINT_URL (GOOGLE_BASE_URL) begin with https://.",
    ),
    said(
        r"(?i)made to Console port|sent to (?:the )?API port",
        Reason.HUB_REFUSED,
        "is asked at its console",
        "Have AWS_ENDPOINT_URL name the port of the store's API (MinIO's is 9000, most often), not of its console.",
    ),
    said(
        r"SecondLevelDomainForbidden|VirtualHostDomainRequired|(?i:must be addressed using \S+ (?:third level domain|virtual)|supports only virtual)",
        Reason.HUB_REFUSED,
        "wants the bucket in its host name",
        "Set AWS_VIRTUAL_HOSTED_STYLE_REQUEST to true in the Secret, and AWS_ENDPOINT_URL with the bucket before the host.",
    ),
    said(
        r"(?i)must be addressed using the specified endpoint",
        Reason.HUB_REFUSED,
        "lies at another endpoint",
        "Have AWS_ENDPOINT_URL name the endpoint that these words name, of the bucket's own region (with AWS_VIRTUAL_HOSTED_STYLE_REQUEST the bucket "
        "before its host), and AWS_REGION that region (in the Secret, or sources.s3 of the platform's settings).",
    ),
    said(
        r"(?i)requester pays|UserProjectMissing",
        Reason.HUB_REFUSED,
        "has who reads it pay",
        "Use a bucket that is not Requester Pays, or have it switched off there.",
    ),
    said(
        r"(?i)scope\(?s?\)? are not authorized|insufficient authentication scopes|ACCESS_TOKEN_SCOPE_INSUFFICIENT",
        Reason.INVALID_TOKEN,
        "may not be read with the scopes of this identity",
        "Use Workload Identity, or a service account's key (GOOGLE_SERVICE_ACCOUNT_KEY), or nodes whose access scopes hold storage "
        "(devstorage.read_only, cloud-platform): rights alone do not help.",
    ),
    said(
        r"Anonymous (?:caller|access|users?)",
        Reason.INVALID_TOKEN,
        "is not public and needs credentials",
        NAME_KEYS,
    ),
    said(
        r"InvalidBucketName",
        Reason.REPO_NOT_FOUND,
        "is no name of a bucket here",
        "Correct the name of the bucket in the source.",
    ),
    said(
        r"(?i)region must be specified|home region|(?:wrong|incorrect|invalid|unexpected|mismatch\w*) region|\bregion\b[^<.]{0,60}(?:is wrong|mismatch|not match|invalid|incorrect)",
        Reason.HUB_REFUSED,
        "is asked for another region",
        "Set AWS_REGION to the region of the bucket, which these words name or, with stores other than AWS, the endpoint does (in the Secret, or "
        "sources.s3.region of the platform's settings). Where that is right, put valid keys into the Secret that credentialsSecretRef names.",
    ),
    said(
        r"(?i)Credential is mal-?formed",
        Reason.INVALID_TOKEN,
        "does not accept the credentials",
        "AWS_ACCESS_KEY_ID is no key (a quote, a slash or a blank in it?): put the key alone into the Secret that credentialsSecretRef names.",
    ),
    said(
        r"(?i)access key has length|MalformedAccessKeyId|InvalidCredential\b",
        Reason.INVALID_TOKEN,
        "does not accept the credentials",
        "These look like keys of another store, or the two are swapped (AWS_ACCESS_KEY_ID is the shorter): put this one's own (of R2 an R2 API "
        "token's) into the Secret that credentialsSecretRef names.",
    ),
    said(
        r"SignatureDoesNotMatch",
        Reason.INVALID_TOKEN,
        "does not accept the credentials",
        "Where the keys may be wrong (a slip in the secret key, or the key of another id), put both anew into the Secret that credentialsSecretRef "
        "names. Where they are right, set AWS_REGION to the store's own, and see whether a proxy before it changes the host or path that is signed.",
    ),
    said(
        r"InvalidAccessKeyId|ExpiredToken|InvalidToken|TokenRefreshRequired|invalid_grant"
        r"|InvalidClientTokenId|InvalidSecurity|InvalidAccessKey\b",
        Reason.INVALID_TOKEN,
        "does not accept the credentials",
        GIVE_KEYS,
    ),
    said(
        r"SlowDownRead|SlowDownWrite|(?i:resource requested is un(?:readable|writable))",
        Reason.HUB_RATE_LIMITED,
        "asks to slow down",
        "MinIO says so when drives or nodes of it are offline, too: look at its health. Else wait, or lower `download.parallelism`.",
    ),
    said(
        r"SlowDown|Throttl|TooManyRequests|RequestLimitExceeded|BandwidthLimitExceeded|(?i:rateLimitExceeded)",
        Reason.HUB_RATE_LIMITED,
        "limits the rate of requests",
        "Wait, or lower `download.parallelism`.",
    ),
    said(
        r"<Code>(?:RequestTimeout|InternalError|ServiceUnavailable|OperationAborted|XMinioServerNotInitialized)",
        Reason.HUB_UNREACHABLE,
        "breaks off or has a fault of its own",
        "It is tried again; where that does not help, look at the store's own state, and check its endpoint.",
    ),
)
"""What comes with a status."""

WITHOUT_STATUS = (
    said(
        r"Failed to read token file",
        Reason.INVALID_TOKEN,
        "needs the token of the pod's identity, and its file cannot be read",
        "Have the file there, and readable for this program's user (65532): a projected token of the service account is, with the pod's fsGroup.",
    ),
    said(
        r"OpenCredentials|DecodeCredentials|Unable to (?:open|decode) service account|CredentialProvider",
        Reason.INVALID_TOKEN,
        "needs credentials, and they are missing or cannot be read",
        GIVE_KEYS,
    ),
    said(
        r"invalid path|empty path segment",
        Reason.HUB_REFUSED,
        "holds an object whose name is no path",
        "Rename or remove the object that is named (a doubled slash makes an empty folder), or give a prefix without it.",
    ),
    said(
        r"Header missing from response",
        Reason.HUB_REFUSED,
        "answers without an object's length or date",
        "Store the objects unpacked (without Content-Encoding: gzip, as gsutil -z and -Z set it); else a proxy or gateway takes the header away.",
    ),
    said(
        r"non-partial response when range requested|Requested \d+\.\.\d+, got \d+\.\.",
        Reason.HUB_REFUSED,
        "does not give a part of an object",
        "Store the objects unpacked (without Content-Encoding: gzip, as gsutil -z and -Z and gcloud's --gzip-local set it): of what it unpacks a store "
        "gives no parts. Else what answers knows no ranges, as some gateways and caches: use the store itself as endpoint, or one that does.",
    ),
    said(
        r"Got invalid \w{1,40} response|ill-formed document",
        Reason.HUB_REFUSED,
        "answers, but not as an object store does",
        "Check the endpoint (AWS_ENDPOINT_URL, GOOGLE_BASE_URL), and whether a proxy, a filter or a sign-in page answers in its place, or a "
        "gateway whose listing is not S3's (its dates, for example: a newer release of it).",
    ),
)
"""What the client library says by itself, of an answer or of what it was given."""
