"""What it means when an object store gives nothing: by the words, by who said them, by the status, by the network."""

from __future__ import annotations

import html
import re

from obstore import exceptions

from vllm_weights import tls, wire
from vllm_weights.failure import REFRESH, Reason, WeightsError
from vllm_weights.lender_codes import LENT
from vllm_weights.store_codes import CODES, GIVE_KEYS, NAME_KEYS, WITHOUT_STATUS, Said

STATUS = re.compile(r"status(?: code)?: (\d{3})")
_ENDPOINT = "Check the endpoint (AWS_ENDPOINT_URL, or where none is set AWS_REGION, which makes it; GOOGLE_BASE_URL)"
_GRANT = (
    "Grant reading and listing of the prefix (s3:GetObject and s3:ListBucket; storage.objects.get and .list), "
    "where the store's words name nothing else; without keys (AWS_SKIP_SIGNATURE, GOOGLE_SKIP_SIGNATURE) only what is public is given. "
    "One object alone that is refused is another account's, or has an ACL of its own."
)
_OF_A_STORE = re.compile(r"<Code>|<Error>|\"error\": ?[{\"]|storage\.\w+\.\w+")
"""In what a store says of itself: S3's and Google's objects of an error."""
_LENDER = re.compile(
    r"Error performing [A-Z]{3,6} https?://(?:169\.254\.|\[fd00:ec2|metadata[./:]|sts[.-]|iamcredentials\.|oauth2\.|[^\s?]{0,200}(?:/latest/|/computeMetadata/)"
    r"|\S{0,400}Action=AssumeRole)|Error performing POST REDACTED|sts:AssumeRole|InstanceCredential|TokenRequest"
)
"""Not the store was asked, but who lends credentials: a node's or cluster's metadata service, or a cloud's for tokens."""
_HIDDEN = "POST REDACTED"
"""The library's words for the address of who lends roles, since the pod's token stands behind it."""
_OF_THE_NODE = re.compile(r"//169\.254\.169\.254|/latest/(?:api/token|meta-data)|/computeMetadata/")
"""Asked where no other credentials are given."""
_NOT_TRUSTED = re.compile(r"InvalidCertificate\(\s*(\w+)")
_ALERT = re.compile(r"AlertReceived\(\s*(\w+)|(PeerIncompatible\(\s*\w+)")
_NO_TLS = re.compile(r"InvalidContentType|WrongVersionNumber")
_CAUSE = re.compile(r"(?:error|message): \"([^\"]{3,200})\"|kind: (TimedOut|Timeout|UnexpectedEof|IncompleteMessage)")
"""The innermost cause in the library's picture of an error of the network."""
_ADDRESS = re.compile(r"(https?://[^\s?\"'<>]{1,200})(\?[^\s\"'<>]*)?")
_PAGE = re.compile(r"(?i)<!doctype ?html|<html\b")
_TITLE = re.compile(r"(?is)<title>([^<]{1,200})")
_CODE = re.compile(r"<Code>([^<]{1,80})</Code>")
_MESSAGE = re.compile(r"<Message>([^<]{1,400})(?:</Message>|$)|\"message\": ?\"((?:[^\"\\]|\\.){1,400})\"")
_DETAILS = re.compile(r"<Details>([^<]{1,300})")
ELSEWHERE = re.compile(r"incorrectly configured region|PermanentRedirect|AuthorizationHeaderMalformed|\"dns error\"")
"""Where it is worth to ask whether the bucket, or what stands before it, sends elsewhere."""
_TOOK = re.compile(r" in [\d.]{1,15}[mnµ]?s\b")
_NO_HTTP = re.compile(r"Parse\(\s*(?:Version|Status|Header|Uri|Method)")
_MOST = 500
"""Characters of what was said."""


def failure(error: Exception, where: str, kind: str, lender: str = "") -> WeightsError:
    """What an error of the library means. `where` names the source, `kind` is s3 or gs, `lender` the host that lends roles."""
    whole, short = str(error), _words(str(error)).replace(_HIDDEN, f"POST https://{lender}" if lender else _HIDDEN)
    found = STATUS.search(whole)
    status = int(found[1]) if found else 0
    said = _ADDRESS.sub("", whole)  # a bucket may be called like a code
    if "Config error" in whole:
        return cannot_be_asked(where, short)
    is_lender = _LENDER.search(whole) is not None
    if known := _known(said, LENT if is_lender else CODES if status else WITHOUT_STATUS):
        return WeightsError(known.reason, f"{where} {known.how}: {short}", known.remedy)
    if is_lender:
        return _not_lent(status, whole, where, short)
    if isinstance(error, exceptions.PermissionDeniedError | exceptions.UnauthenticatedError) or status:
        return _by_status(status, error, where, short, kind)
    return _of_the_network(whole, where, short, kind)


def absent(where: str, said: str, path: str = "") -> WeightsError:
    """What is not there: the object, the bucket, or, where a page came, a store."""
    code = _CODE.search(said)
    if _PAGE.search(said) or not (path or code):
        return no_store(where, _words(said))
    if path:
        remedy = (
            "It went away meanwhile: upload or restore it (a bucket with versions still has it). Where it is not wanted any more, "
            f"{REFRESH}, and the model is looked up again."
        )
        return WeightsError(Reason.WEIGHTS_MISSING, f"{where} has no {path} any more.", remedy)
    if code is not None and code[1] == "NoSuchKey":
        return WeightsError(
            Reason.HUB_REFUSED,
            f"{where} cannot be listed: the store takes the bucket for an object (NoSuchKey).",
            "Leave the bucket out of AWS_ENDPOINT_URL, or set AWS_VIRTUAL_HOSTED_STYLE_REQUEST to true with it.",
        )
    remedy = "Check the name of the bucket, and that it is in this store (AWS_ENDPOINT_URL, GOOGLE_BASE_URL)."
    return WeightsError(Reason.REPO_NOT_FOUND, f"{where} does not exist: {_words(said)}", remedy)


def no_store(where: str, words: str, status: int = 0) -> WeightsError:
    """A page or something else in a store's place. A gate that has trouble itself (5xx) may let through the next time."""
    return WeightsError(
        Reason.HUB_UNREACHABLE if status >= 500 else Reason.HUB_REFUSED,
        f"What answers for {where} is no object storage: {words}",
        f"{_ENDPOINT}: its port is the API's, not a console's, and no path stands behind it. Where a proxy or a filter answers in its "
        "place have it let through, or have NO_PROXY name the store's host (as for one inside the cluster).",
    )


def no_listing(where: str, how: str) -> WeightsError:
    return WeightsError(
        Reason.HUB_REFUSED,
        f"{where} cannot be listed: {how}.",
        "What answers does not know the present way of listing (ListObjectsV2), as old or small gateways: use the store itself or a newer "
        "release of it as endpoint, or a prefix with fewer objects below it.",
    )


def redirected(where: str, host: str, *, to_tls: bool) -> WeightsError:
    """Of a refusal behind a redirect, on which no signature goes along."""
    remedy = (
        "Have AWS_ENDPOINT_URL begin with https://."
        if to_tls
        else "Set AWS_REGION to the bucket's own region, or AWS_ENDPOINT_URL to the host that it redirects to. Where that is a page to "
        "sign in at, have what stands before the store let these pods through, or name the store itself as endpoint."
    )
    message = f"{where} is redirected to {host}, where no signature goes along."
    return WeightsError(Reason.HUB_REFUSED, message, remedy)


def in_another_region(where: str, region: str) -> WeightsError:
    message = f"{where} is in the region {region}, and another was asked."
    return WeightsError(Reason.HUB_REFUSED, message, f"Set AWS_REGION to {region}.")


def cannot_be_asked(where: str, why: str) -> WeightsError:
    return WeightsError(
        Reason.INVALID_ARGUMENT,
        f"{where} cannot be asked with the addresses and keys that are given: {why.rstrip('.')}.",
        "Correct the Secret's keys (AWS_…, GOOGLE_…), and the platform's addresses.",
    )


def _known(said: str, table: tuple[Said, ...]) -> Said | None:
    return next((row for row in table if row.words.search(said)), None)


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
    if status == 0:
        remedy = (
            "Let the namespace reach the service that lends credentials (NetworkPolicy, proxy variables, its endpoint for the region): "
            "for a role of a service account that is sts.REGION.amazonaws.com. A private network without a way out needs an endpoint of its own for it."
        )
        why = _with_cause(whole, short)
        return WeightsError(Reason.HUB_UNREACHABLE, f"{where}: no credentials can be had: {why}", remedy)
    return WeightsError(
        Reason.INVALID_TOKEN,
        f"{where}: this pod's identity is lent no credentials: {short}",
        "Let its service account have the role: the trust policy of the role or the association that names it (AWS), "
        "roles/iam.workloadIdentityUser (Google). The bucket's own policies have not been asked.",
    )


def _by_status(status: int, error: Exception, where: str, short: str, kind: str) -> WeightsError:
    said = str(error)
    if _PAGE.search(said):
        return no_store(where, short, status)
    if status in (401, 403) and not _OF_A_STORE.search(said):
        return _gate(where, short)
    if status == 401 or isinstance(error, exceptions.UnauthenticatedError):
        return WeightsError(Reason.INVALID_TOKEN, f"{where} does not accept the credentials: {short}", GIVE_KEYS)
    if status == 404:
        return absent(where, said)
    if status == 403 or isinstance(error, exceptions.PermissionDeniedError):
        return WeightsError(Reason.INVALID_TOKEN, f"{where} may not be read with these credentials: {short}", _GRANT)
    if status in (407, 429, 451):
        return wire.status_failure(status, where, f"({short})", None)
    return _refused(status, where, short, kind)


def _gate(where: str, short: str) -> WeightsError:
    """Of a refusal in words, or without any, that are no store's."""
    return WeightsError(
        Reason.HUB_REFUSED,
        f"Something before {where} refuses, and not in the words of a store: {short}",
        "Ask who runs what stands on the way (a mesh's or network policy, an ingress, a gateway, a proxy) to let these pods through, or name "
        f"the store itself as endpoint. Where it is the store that refuses without a word: {_GRANT}",
    )


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


def _of_the_network(whole: str, where: str, short: str, kind: str) -> WeightsError:
    """Nobody has said anything."""
    if of_tls := _of_tls(whole, where, short, kind):
        return of_tls
    if _NO_HTTP.search(whole):
        return no_store(where, "it does not speak HTTP.")
    if "ProxyAuthRequired" in whole or "TunnelUnsuccessful" in whole:
        return WeightsError(
            Reason.HUB_UNREACHABLE,
            f"The proxy does not connect to the store of {where}: {short}",
            "Have the proxy let these pods through to it, with the login that it wants, or have NO_PROXY name the store's host.",
        )
    if "configured region" in short:
        return _refused(0, where, short, kind)
    why = _with_cause(whole, short)
    through = "a proxy cannot be reached" if "ConnectFailed" in whole else "it cannot be reached or breaks off"
    return WeightsError(
        Reason.HUB_UNREACHABLE,
        f"{where}: {through}: {why}",
        f"{_ENDPOINT}, the name's DNS entry and the proxy variables, and that the namespace may reach it (NetworkPolicy).",
    )


def _with_cause(whole: str, short: str) -> str:
    causes = [found[1] or found[2] for found in _CAUSE.finditer(whole)]
    return f"{short} ({causes[-1]})" if causes else short


def _of_tls(whole: str, where: str, short: str, kind: str) -> WeightsError | None:
    if found := _NOT_TRUSTED.search(whole):
        meant = tls.not_trusted(where, found[1])
        if kind == "s3" and found[1].startswith("NotValidForName"):
            meant.remedy += (
                " A bucket with dots in its name is asked by path: leave AWS_VIRTUAL_HOSTED_STYLE_REQUEST out."
            )
        return meant
    if _NO_TLS.search(whole):
        return tls.failure(where, "WRONG_VERSION_NUMBER")
    alert = _ALERT.search(whole)
    return tls.failure(where, f"{alert[1] or alert[2]} ({short})") if alert else None


def _words(said: str) -> str:
    """The store's own code and sentence where it gives them, else the library's words, shortened."""
    code, message = _CODE.search(said), _MESSAGE.search(said)
    if code or message:
        told = [
            html.unescape(found[1] or found[2]).strip() for found in (code, message, _DETAILS.search(said)) if found
        ]
        return ": ".join(told)[:_MOST]
    words = _ADDRESS.sub(r"\1", said.partition("Debug source")[0])
    words = _TOOK.sub("", words)
    if page := _PAGE.search(words):
        title = _TITLE.search(words)
        words = words[: page.start()] + (f"a page, {title[1].strip()!r}" if title else "a page")
    return " ".join(words.split())[:_MOST]
