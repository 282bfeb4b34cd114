"""What an object store and its client library say when nothing comes, and what that means.

A store's own code, where it gives one, tells more than its status: a 403 is not always about rights, a 400 may pass.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from obstore import exceptions

from vllm_weights import wire
from vllm_weights.failure import Reason, WeightsError

STATUS = re.compile(r"status(?: code)?: (\d{3})")
_CREDENTIALS = (
    "Put valid keys into the secret, correct the identity of the service account, or for a public bucket set "
    "AWS_SKIP_SIGNATURE or GOOGLE_SKIP_SIGNATURE to true."
)
_ENDPOINT = "Check the endpoint (AWS_ENDPOINT_URL, GOOGLE_BASE_URL)"


@dataclass(frozen=True, slots=True)
class _Said:
    """Words of a store or of the library, and what is at fault."""

    words: re.Pattern[str]
    reason: Reason
    how: str
    remedy: str


_CODES = tuple(
    _Said(re.compile(words), reason, how, remedy)
    for words, reason, how, remedy in (
        (
            r"RequestTimeTooSkewed|RequestExpired",
            Reason.HUB_REFUSED,
            "refuses every request",
            "Have the clock of the node set right, where it differs from the store's: the keys are not at fault.",
        ),
        (
            r"AllAccessDisabled",
            Reason.HUB_REFUSED,
            "refuses every request",
            "The store has shut this bucket: ask its owner, or name another.",
        ),
        (
            r"AccountProblem|UserSuspended|NotSignedUp|(?i:accountDisabled|billing account|billing is disabled)",
            Reason.HUB_REFUSED,
            "refuses every request",
            "The store has shut the account (of these keys, or that pays for the bucket): ask its owner, or use another.",
        ),
        (
            r"InvalidObjectState",
            Reason.HUB_REFUSED,
            "does not give an object",
            "The object lies in an archive (Glacier): have it restored first.",
        ),
        (
            r"vpcServiceControls",
            Reason.HUB_REFUSED,
            "refuses every request",
            "Have the perimeter of VPC Service Controls let this cluster and identity through: the credentials are not at fault.",
        ),
        (
            r"KMS\.(?:Disabled|InvalidState|NotFound)\w*",
            Reason.HUB_REFUSED,
            "does not give an object",
            "The key that the objects are encrypted with is disabled or gone: have it enabled, or the objects encrypted anew.",
        ),
        (
            r"InvalidAccessKeyId|SignatureDoesNotMatch|ExpiredToken|InvalidToken|TokenRefreshRequired|invalid_grant"
            r"|InvalidClientTokenId|InvalidIdentityToken|InvalidSecurity",
            Reason.INVALID_TOKEN,
            "does not accept the credentials",
            _CREDENTIALS,
        ),
        (
            r"SlowDown|Throttl|TooManyRequests|RequestLimitExceeded|BandwidthLimitExceeded|(?i:rateLimitExceeded)",
            Reason.HUB_RATE_LIMITED,
            "limits the rate of requests",
            "Wait, or lower the parallelism.",
        ),
        (
            r"<Code>(?:RequestTimeout|InternalError|ServiceUnavailable|OperationAborted|XMinioServerNotInitialized)",
            Reason.HUB_UNREACHABLE,
            "breaks off or has a fault of its own",
            f"It is tried again; where that does not help, look at the store's own state. {_ENDPOINT}, too.",
        ),
    )
)
"""First those that another status, too, may come with."""

_NO_CREDENTIALS = re.compile(r"InstanceCredential|TokenRequest|OpenCredentials|DecodeCredentials|CredentialProvider")
"""obstore's words where nothing in its chain of credentials answers."""
_NOT_TRUSTED = re.compile(r"InvalidCertificate\(\s*(\w+)")
_NO_TLS = re.compile(r"InvalidContentType|WrongVersionNumber")
_CAUSE = re.compile(r"(?:error|message): \"([^\"]{3,200})\"|kind: (TimedOut|Timeout|UnexpectedEof|IncompleteMessage)")
"""The innermost cause in the library's picture of an error of the network."""
_ADDRESS = re.compile(r"https?://\S+")
_PAGE = re.compile(r"(?i)<!doctype html|<html\b")
_CODE = re.compile(r"<Code>([^<]{1,80})</Code>")
_MESSAGE = re.compile(r"<Message>([^<]{1,400})(?:</Message>|$)|\"message\": ?\"((?:[^\"\\]|\\.){1,400})\"")
_DETAILS = re.compile(r"<Details>([^<]{1,300})")
_ELSEWHERE = re.compile(r"incorrectly configured region|PermanentRedirect|AuthorizationHeaderMalformed")


def failure(error: Exception, where: str, kind: str) -> WeightsError:
    """What an error of the library means. `where` names the source, `kind` is s3 or gs."""
    said = _ADDRESS.sub("", str(error))  # a bucket may be called like a code
    short = _words(str(error))
    found = STATUS.search(said)
    status = int(found[1]) if found else 0
    if "Config error" in said:
        return cannot_be_asked(where, short)
    for code in _CODES:
        if code.words.search(said):
            return WeightsError(code.reason, f"{where} {code.how}: {short}", code.remedy)
    if status == 0 and not isinstance(error, exceptions.PermissionDeniedError | exceptions.UnauthenticatedError):
        return _without_answer(said, where, short, kind)
    return _by_status(status, error, where, short, kind)


def absent(where: str, said: str, path: str = "") -> WeightsError:
    """What is not there: the object, the bucket, or, where a page came, a store."""
    if _PAGE.search(said):
        return no_store(where, _words(said))
    if path:
        return WeightsError(Reason.WEIGHTS_MISSING, f"{where} has no {path} any more.", "Inspect the model again.")
    return WeightsError(Reason.REPO_NOT_FOUND, f"{where} does not exist.", "Check the name of the bucket.")


def no_store(where: str, words: str) -> WeightsError:
    return WeightsError(
        Reason.HUB_REFUSED,
        f"What answers for {where} is no object storage: {words}",
        f"{_ENDPOINT}, and whether a proxy or a filter answers in its place.",
    )


def cannot_be_asked(where: str, why: str) -> WeightsError:
    return WeightsError(
        Reason.INVALID_ARGUMENT,
        f"{where} cannot be asked with the addresses and keys that are given: {why.rstrip('.')}.",
        "Correct the Secret's keys (AWS_…, GOOGLE_…), and the platform's addresses.",
    )


def _forbidden(where: str, short: str) -> WeightsError:
    return WeightsError(
        Reason.INVALID_TOKEN,
        f"{where} may not be read with these credentials: {short}",
        "Grant reading and listing of the prefix (s3:GetObject and s3:ListBucket; storage.objects.get and .list), "
        "where the store's words name nothing else; without keys (AWS_SKIP_SIGNATURE, GOOGLE_SKIP_SIGNATURE) only what is public is given.",
    )


def _without_answer(said: str, where: str, short: str, kind: str) -> WeightsError:
    """No store has said anything: credentials are missing, or the network fails."""
    if _NO_CREDENTIALS.search(said):
        how = f"needs credentials, and they are missing or cannot be read: {short}"
        return WeightsError(Reason.INVALID_TOKEN, f"{where} {how}", _CREDENTIALS)
    if found := _NOT_TRUSTED.search(said):
        return wire.not_trusted(where, found[1])
    if _NO_TLS.search(said):
        return wire.unreachable(where, "WRONG_VERSION_NUMBER")
    if "ProxyAuthRequired" in said or "TunnelUnsuccessful" in said:
        return WeightsError(
            Reason.HUB_UNREACHABLE,
            f"The proxy does not connect to the store of {where}: {short}",
            "Have the proxy let these pods through to it, with the login that it wants, or have NO_PROXY name the store's host.",
        )
    if _ELSEWHERE.search(short):
        return _refused(0, where, short, kind)
    causes = [found[1] or found[2] for found in _CAUSE.finditer(said)]
    why = f"{short} ({causes[-1]})" if causes else short
    through = "a proxy cannot be reached" if "ConnectFailed" in said else "it cannot be reached or breaks off"
    return WeightsError(
        Reason.HUB_UNREACHABLE,
        f"{where}: {through}: {why}",
        f"{_ENDPOINT}, the name's DNS entry and the proxy variables, and that the namespace may reach it (NetworkPolicy).",
    )


def _by_status(status: int, error: Exception, where: str, short: str, kind: str) -> WeightsError:
    if status == 401 or isinstance(error, exceptions.UnauthenticatedError):
        return WeightsError(Reason.INVALID_TOKEN, f"{where} does not accept the credentials: {short}", _CREDENTIALS)
    if status == 404 or _PAGE.search(str(error)):
        return absent(where, str(error))
    if status == 403 or isinstance(error, exceptions.PermissionDeniedError):
        return _forbidden(where, short)
    if status in (407, 429, 451):
        return wire.status_failure(status, where, f"({short})", None)
    return _refused(status, where, short, kind)


def _refused(status: int, where: str, short: str, kind: str) -> WeightsError:
    if status >= 500 or status == 408:
        return WeightsError(
            Reason.HUB_UNREACHABLE,
            f"{where} cannot be reached or breaks off: {short}",
            f"{_ENDPOINT}, and that the namespace may reach it; else look at the store's own state.",
        )
    remedy = (
        "Check the endpoint and the region (AWS_REGION must be the bucket's own), and what the store's words name."
        if kind == "s3"
        else "Correct what the store's words name; else check the endpoint (GOOGLE_BASE_URL)."
    )
    answered = f"answered HTTP {status}" if status else "does not answer here"
    return WeightsError(Reason.HUB_REFUSED, f"{where} {answered}: {short}", remedy)


def _words(said: str) -> str:
    """The store's own code and sentence where it gives them, else the library's words, shortened."""
    code, message = _CODE.search(said), _MESSAGE.search(said)
    if code or message:
        told = [(found[1] or found[2]).strip() for found in (code, message, _DETAILS.search(said)) if found]
        return ": ".join(told)[:600]
    return " ".join(said.partition("Debug source")[0].split())[:300]
