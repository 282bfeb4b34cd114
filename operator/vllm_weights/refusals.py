"""What it means when an object store gives nothing: by the words, by who said them, by the status, by the network."""

from __future__ import annotations

import re
from urllib.parse import urlsplit

from obstore import exceptions

from vllm_weights import lenders, proxies, tls, wire
from vllm_weights.asking import Asking
from vllm_weights.failure import REFRESH, Reason, WeightsError
from vllm_weights.store_codes import CODES, GIVE_KEYS, WITHOUT_STATUS, Said
from vllm_weights.store_words import ADDRESS, CODE, PAGE, STATUS, with_cause, words_of

_ENDPOINT = "Check the endpoint (AWS_ENDPOINT_URL, or where none is set AWS_REGION, which makes it; GOOGLE_BASE_URL)"
_GRANT = (
    "Grant reading and listing of the prefix (s3:GetObject and s3:ListBucket; storage.objects.get and .list), "
    "where the store's words name nothing else; without keys (AWS_SKIP_SIGNATURE, GOOGLE_SKIP_SIGNATURE) only what is public is given. "
    "One object alone that is refused is another account's, or has an ACL of its own."
)
_OF_A_STORE = re.compile(r"<Code>|<Error>|\"error\": ?[{\"]|storage\.\w+\.\w+")
"""In what a store says of itself: S3's and Google's objects of an error."""
_NOT_TRUSTED = re.compile(r"InvalidCertificate\(\s*(?:Other\(\s*OtherError\(\s*)?(\w+)")
_ALERT = re.compile(r"AlertReceived\(\s*(\w+)|(PeerIncompatible\(\s*\w+)")
_NO_TLS = re.compile(r"InvalidContentType|WrongVersionNumber")
ELSEWHERE = re.compile(r"incorrectly configured region|PermanentRedirect|AuthorizationHeaderMalformed|\"dns error\"")
"""Where it is worth to ask whether the bucket, or what stands before it, sends elsewhere."""
_NO_HTTP = re.compile(r"Parse\(\s*(?:Version|Status|Header|Uri|Method)")
_CUT = re.compile(r"before end of input|(?i:unexpected (?:eof|end of))|missed (?:an )?end tag|not closed")


def failure(error: Exception, where: str, asking: Asking, path: str = "", *, listed: bool = False) -> WeightsError:
    """What an error of the library means. `where` names the source, `path` an object; `listed`: its list came before."""
    whole, short = str(error), words_of(str(error))
    where = f"{path} in {where}" if path else where
    found = STATUS.search(whole)
    status = int(found[1]) if found else 0
    said = ADDRESS.sub("", whole)  # a bucket may be called like a code
    if "Config error" in whole:
        return cannot_be_asked(where, short)
    if lenders.is_of_a_lender(whole):
        return lenders.failure(whole, status, where, short, asking.lender)
    if _CUT.search(said):
        return CutList(where, short)
    if known := _known(said, CODES if status else WITHOUT_STATUS):
        meant = WeightsError(known.reason, f"{where} {known.how}: {short}", known.remedy)
        return asking.looked_at_first(meant, said, path, listed=listed)
    if isinstance(error, exceptions.PermissionDeniedError | exceptions.UnauthenticatedError) or status:
        meant = _by_status(status, error, where, short, asking)
        return asking.looked_at_first(meant, said, path, listed=listed)
    return asking.looked_at_first(_of_the_network(whole, where, short, asking.kind), whole)


class CutList(WeightsError):
    """HubUnreachable: an answer that breaks off inside its XML is whole the next time, as a rule."""

    def __init__(self, where: str, short: str) -> None:
        remedy = f"It is tried again. Where it stays so: {_ENDPOINT}, and what stands before it (a proxy, a cache)."
        super().__init__(Reason.HUB_UNREACHABLE, f"{where} answers with half a list: {short}", remedy)

    def for_good(self) -> WeightsError:
        """HubRefused."""
        return WeightsError(Reason.HUB_REFUSED, self.message, self.remedy)


def absent(where: str, said: str, asking: Asking, path: str = "") -> WeightsError:
    """What is not there: the object, the bucket, or, where a page came, a store."""
    code = CODE.search(said)
    if PAGE.search(said) or not (path or code):
        return no_store(where, words_of(said), asking.endpoint)
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
    meant = WeightsError(Reason.REPO_NOT_FOUND, f"{where} does not exist: {words_of(said)}", remedy)
    return asking.looked_at_first(meant, said)


def no_store(where: str, words: str, endpoint: str = "", status: int = 0) -> WeightsError:
    """A page or something else in a store's place. A gate that has trouble itself (5xx) may let through the next time."""
    through = proxies.on_the_way(endpoint) if endpoint.startswith("http://") else None
    if through is not None:
        return WeightsError(
            Reason.HUB_UNREACHABLE if status >= 500 else Reason.HUB_REFUSED,
            f"What answers for {where}, asked by way of {through}, is no object storage: {words}",
            f"Have NO_PROXY name {urlsplit(endpoint).hostname} where it may be reached without the proxy, as a store inside the cluster or the company; "
            f"else have whoever runs the proxy look at its way there. Where it is not the proxy that answers: {_ENDPOINT}, whose port is the API's, not "
            "a console's.",
        )
    if status >= 500:
        return WeightsError(
            Reason.HUB_UNREACHABLE,
            f"What stands before {where} answers with HTTP {status}, and no store: {words}",
            "It is tried again. Where it stays so, see whether the store behind that load balancer, ingress or proxy is up (its pods ready, its service "
            f"with endpoints), and have whoever runs it look. Else: {_ENDPOINT}.",
        )
    return WeightsError(
        Reason.HUB_REFUSED,
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


def behind_a_cdn(where: str, said: str) -> WeightsError:
    return WeightsError(
        Reason.HUB_REFUSED,
        f"A CDN (CloudFront) stands before {where}, and refuses: {words_of(said) or 'it says nothing'}",
        "It asks the bucket as itself, so that rights of these keys change nothing: leave AWS_ENDPOINT_URL out, or have it name the store itself.",
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


def in_another_region(where: str, region: str, asking: Asking) -> WeightsError:
    message = f"{where} is in the region {region}, and another was asked."
    remedy = f"Set AWS_REGION to {region}."
    if ".amazonaws.com" in asking.endpoint:
        remedy = f"Take AWS_ENDPOINT_URL out, which names another region's host (or have it name s3.{region}.amazonaws.com), and set AWS_REGION to {region}."
    elif asking.endpoint:
        remedy = f"Set AWS_REGION to {region}; where the host of AWS_ENDPOINT_URL is of another region, have it name this one's."
    return WeightsError(Reason.HUB_REFUSED, message, remedy)


def cannot_be_asked(where: str, why: str) -> WeightsError:
    return WeightsError(
        Reason.INVALID_ARGUMENT,
        f"{where} cannot be asked with the addresses and keys that are given: {why.rstrip('.')}.",
        "Correct the Secret's keys (AWS_…, GOOGLE_…), and the platform's addresses.",
    )


def _known(said: str, table: tuple[Said, ...]) -> Said | None:
    return next((row for row in table if row.words.search(said)), None)


def _by_status(status: int, error: Exception, where: str, short: str, asking: Asking) -> WeightsError:
    said = str(error)
    if PAGE.search(said):
        return no_store(where, short, asking.endpoint, status)
    if status in (401, 403) and not _OF_A_STORE.search(said):
        return _gate(where, short)
    if status == 401 or isinstance(error, exceptions.UnauthenticatedError):
        return WeightsError(Reason.INVALID_TOKEN, f"{where} does not accept the credentials: {short}", GIVE_KEYS)
    if status == 404:
        return absent(where, said, asking)
    if status == 403 or isinstance(error, exceptions.PermissionDeniedError):
        return WeightsError(Reason.INVALID_TOKEN, f"{where} may not be read with these credentials: {short}", _GRANT)
    if status in (407, 429, 451):
        return wire.status_failure(status, where, f"({short})", None)
    return _refused(status, where, short, asking.kind)


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
    why = with_cause(whole, short)
    through = "a proxy cannot be reached" if "ConnectFailed" in whole else "it cannot be reached or breaks off"
    return WeightsError(
        Reason.HUB_UNREACHABLE,
        f"{where}: {through}: {why}",
        f"{_ENDPOINT}, the name's DNS entry and the proxy variables, and that the namespace may reach it (NetworkPolicy).",
    )


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
