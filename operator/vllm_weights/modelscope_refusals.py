"""What ModelScope refuses, and what would help: by its own code and words first, since it answers 404 for most that fails."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager

import httpx2
import requests
from modelscope_hub import APIError, HubApi, HubError
from modelscope_hub.errors import AuthenticationError, NetworkError, NotExistError, PermissionDeniedError

from vllm_weights import blame, wire
from vllm_weights.addresses import bare, host_of
from vllm_weights.failure import REFRESH, Reason, WeightsError
from vllm_weights.listing import RemoteFile

DEFAULT_REVISION = "master"
_ITS_KEYS = frozenset({"Code", "code", "Success", "success", "Message", "RequestId", "request_id"})
"""One of them is in each of its errors."""
_OTHER_HOST = re.compile(r"host='([^']{1,250})'")
_NO_TREE = 10990101004
"""Its code where it cannot list a revision: one that there is not, or, of the default one, a fault that passes."""
_ITS_OWN_FAULT = re.compile(
    r"(?i)\berror \d{4}\b|\bsql\b|time[d ]?-?out|too many connections|\bbusy\b|try again|internal (?:server )?error|繁忙|超时|稍后|重试|服务异常|系统异常"
)
_IS_MISSING = re.compile(r"(?i)record not found")


class Asked:
    """Who is asked for which repository, and as whom. `revision` is the one that is asked for."""

    def __init__(self, endpoint: str, repo: str, has_token: bool, api: HubApi, client: httpx2.Client) -> None:
        self.host, self.endpoint, self.repo, self.has_token = host_of(endpoint), endpoint, repo, has_token
        self.revision = DEFAULT_REVISION
        self._api, self._client = api, client

    @contextmanager
    def errors_named(self) -> Iterator[None]:
        """Turns the library's exceptions into ours."""
        try:
            yield
        except HubError as error:
            raise self.failure(error, retry_after=getattr(error, "retry_after", None)) from error
        except (ValueError, KeyError, TypeError, AttributeError) as error:  # An answer of another shape than the hub's.
            raise self._not_modelscopes(f"{type(error).__name__}: {error}") from error
        except requests.RequestException as error:  # Where a body breaks off, the library lets it through.
            raise wire.unreachable(self.host, f"{type(error).__name__} {error}", self.endpoint) from error

    def failure(
        self, error: HubError, file: RemoteFile | None = None, retry_after: float | None = None
    ) -> WeightsError:
        """What the library's error means, of the listing or of a file."""
        body = error.response_body if isinstance(error, APIError) else None
        said = wire.words_of(body if isinstance(body, str) else error.message)
        if self._lost_the_token(error):
            return self._elsewhere(str(getattr(error, "url", "")))
        match error:
            case NotExistError():
                return self._not_there(error, said, file)
            case AuthenticationError() | PermissionDeniedError():
                return self._no_access(error, said)
            case NetworkError():
                return wire.unreachable(self._named_in(error.message), error.message, self.endpoint)
            case APIError(status_code=429):
                return wire.limited(self.host, said, _bounded(retry_after), has_token=self.has_token)
            case APIError(status_code=int(status)):
                is_page = isinstance(body, str) and "<" in body
                return self._by_status(status, said, file, _bounded(retry_after), is_page=is_page)
        return WeightsError(Reason.HUB_REFUSED, f"{self.host} refused {self.repo}: {said}.", error.suggestion)

    def _by_status(
        self, status: int, said: str, file: RemoteFile | None, retry_after: float | None, *, is_page: bool
    ) -> WeightsError:
        if wire.WANTS_TLS.search(said):
            remedy = "Have sources.modelscope.endpoint of the platform's settings begin with https://."
            return WeightsError(
                Reason.HUB_REFUSED, f"{self.host} is asked in plain HTTP and wants TLS: {said}.", remedy
            )
        if 400 <= status < 500 and is_page and blame.REFUSING.search(said):
            return self._blocked(status, said)
        about = f"for {file.path if file else self.repo}" + (f": {said}" if said else "")
        return wire.status_failure(status, self.host, about, retry_after)

    def _lost_the_token(self, error: HubError) -> bool:
        """Whether a host answered that the endpoint redirects to, which no token goes along to."""
        url = getattr(error, "url", None)
        is_about_access = isinstance(error, NotExistError | AuthenticationError | PermissionDeniedError)
        return self.has_token and is_about_access and bool(url) and host_of(str(url)) != self.host

    def _elsewhere(self, url: str) -> WeightsError:
        other = host_of(url)
        return WeightsError(
            Reason.HUB_REFUSED,
            f"{self.host} redirects to {other}, which shows {self.repo} to nobody without a token; ours goes to no other host than {self.host}.",
            f"Have sources.modelscope.endpoint of the platform's settings name {other} itself, where the token is of it.",
        )

    def empty(self, said: str) -> WeightsError:
        """Of a list with nothing in it; `said` is what came in its place."""
        if said and _ITS_OWN_FAULT.search(said):
            return self._for_now(said)
        if said:
            remedy = "Mend what these words name; else look at the model's page, and try again later."
            return WeightsError(Reason.HUB_REFUSED, f"{self.host} does not list {self.repo}: {said}.", remedy)
        if self.revision != DEFAULT_REVISION:
            return self._missing()
        return WeightsError(
            Reason.WEIGHTS_MISSING,
            f"{self.host} lists no files of {self.repo} at {self.revision}.",
            "Check the name and the revision; files that are hidden from strangers need a token.",
        )

    def _not_there(self, error: NotExistError, said: str, file: RemoteFile | None) -> WeightsError:
        """Of a 404, with which it tells much that is none."""
        body = error.response_body
        if _ITS_OWN_FAULT.search(said) and not _IS_MISSING.search(said):
            return self._for_now(said)
        if file is not None:
            return self._gone(file, said if isinstance(body, dict) else "")
        is_its_own = not body if isinstance(body, dict) else not said
        if not is_its_own and not (isinstance(body, dict) and _ITS_KEYS & body.keys()):
            return self._not_modelscopes(f"404: {said}")
        if isinstance(body, dict) and body.get("Code") == _NO_TREE and self.revision == DEFAULT_REVISION:
            return NoTreeNow(self._for_now(said), self._missing())
        return self._missing()

    def _named_in(self, words: str) -> str:
        """Whom the library could not reach: the endpoint, or where it redirects to."""
        found = _OTHER_HOST.search(words)
        other = found[1] if found else ""
        return f"{other}, to which {self.host} redirects," if other and other != bare(self.host) else self.host

    def _for_now(self, said: str) -> WeightsError:
        return WeightsError(
            Reason.HUB_UNREACHABLE,
            f"{self.host} cannot tell of {self.repo} now: {said}.",
            f"It is a fault of {self.host}, which passes as a rule: it is tried again. Where it stays so, take another source of the same model.",
        )

    def _not_modelscopes(self, what: str) -> WeightsError:
        return WeightsError(
            Reason.HUB_REFUSED,
            f"{self.host} did not answer as ModelScope does for {self.repo} ({what}).",
            "Check the endpoint (sources.modelscope.endpoint of the platform's settings, with its path), and whether a proxy answers in its place.",
        )

    def _blocked(self, status: int, said: str) -> WeightsError:
        """A filter's page, which says nothing of the model nor of the token."""
        return WeightsError(
            Reason.HUB_REFUSED,
            f"{self.host} answers with a page that refuses (HTTP {status}: {said}), and with none of the model.",
            blame.refused_by_page(self.host, {}, None),
        )

    def _no_access(self, error: HubError, said: str) -> WeightsError:
        words = f": {said}" if said else ""
        if isinstance(error, PermissionDeniedError) and not isinstance(error.response_body, dict):
            return WeightsError(
                Reason.HUB_REFUSED,
                f"{self.host} denies access to {self.repo}, with a page that is none of ModelScope's (HTTP 403{words}).",
                "Ask who runs the allow-list, proxy or filter on the way to let the cluster through.",
            )
        if isinstance(error, AuthenticationError) and not isinstance(error.response_body, dict):
            return WeightsError(
                Reason.INVALID_TOKEN,
                f"{self.host} wants a login of its own (HTTP 401{words}), and no answer of ModelScope's comes.",
                "Where it wants a user and password, have sources.modelscope.endpoint of the platform's settings hold them (USER:PASSWORD@ before its "
                "host); else name a secret with a token that it takes (MODELSCOPE_API_TOKEN), or have whoever runs it let this cluster in without.",
            )
        if not self.has_token:
            return WeightsError(
                Reason.REPO_NOT_FOUND,
                f"{self.host} hides {self.repo} from strangers.",
                "Check the spelling; if it is private, name a secret with MODELSCOPE_API_TOKEN.",
            )
        if isinstance(error, AuthenticationError):
            return self._bad_token()
        return WeightsError(
            Reason.INVALID_TOKEN,
            f"{self.host} denies access to {self.repo}.",
            "Ask its owner for access with the account that owns the token.",
        )

    def _gone(self, file: RemoteFile, said: str) -> WeightsError:
        if self.has_token and self._token_is_refused():
            return self._bad_token()
        words = f" ({said})" if said else ""
        remedy = (
            f"Where it went away meanwhile, {REFRESH}, and the model is looked up again; where {self.host} lists it and has lost it, have its owner "
            "upload it again, or take another source."
        )
        return WeightsError(Reason.WEIGHTS_MISSING, f"{self.repo} has no {file.path} any more{words}.", remedy)

    def _bad_token(self) -> WeightsError:
        return WeightsError(
            Reason.INVALID_TOKEN,
            f"{self.host} does not accept the token: it is wrong, expired or revoked.",
            "Put a valid token into the secret (MODELSCOPE_API_TOKEN).",
        )

    def _missing(self) -> WeightsError:
        """What is not there: the revision, the repository, or, since a bad token opens nothing and is not told, the token."""
        if self.revision != DEFAULT_REVISION and self._exists():
            return WeightsError(
                Reason.REVISION_NOT_FOUND,
                f"{self.repo} has no revision {self.revision!r}.",
                "Correct the revision where it is named (revision, or what stands behind the @): a branch or a tag; leave it out for master.",
            )
        if self.has_token and self._token_is_refused():
            return self._bad_token()
        hint = (
            "that the token's account may read it (where its page has people ask for access, ask for it there)"
            if self.has_token
            else "if it is private, name a secret with a token"
        )
        return WeightsError(
            Reason.REPO_NOT_FOUND,
            f"{self.host} has no model {self.repo}, or hides it.",
            f"Check the spelling; {hint} (MODELSCOPE_API_TOKEN); and that it is in this hub (modelscope.cn and modelscope.ai differ, as mirrors do: "
            "sources.modelscope.endpoint of the platform's settings).",
        )

    def _exists(self) -> bool:
        # The library's list of revisions would tell, too, but it waits as long as a Retry-After says.
        with self.errors_named():
            try:
                self._api.list_repo_files(self.repo, "model", recursive=False)
            except NotExistError:
                return False
        return True

    def _token_is_refused(self) -> bool:
        """By the account's page. Not by the library, which follows a redirect and shows the token to whoever it leads to."""
        try:
            answer = self._client.get(f"{self.endpoint}/openapi/v1/users/me", follow_redirects=False)
        except (httpx2.HTTPError, httpx2.InvalidURL):  # A mirror without accounts.
            return False
        return answer.status_code == 401


class NoTreeNow(WeightsError):
    """HubUnreachable while there are tries left, then what a missing repository is."""

    def __init__(self, now: WeightsError, then: WeightsError) -> None:
        super().__init__(now.reason, now.message, now.remedy)
        self._then = then

    def for_good(self) -> WeightsError:
        return self._then


def _bounded(seconds: float | None) -> float | None:
    return None if seconds is None else min(seconds, wire.LONGEST_RETRY_AFTER_SECONDS)
