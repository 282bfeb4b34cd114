"""What the Hugging Face hub, or a mirror of it, refuses, and what would help: told by its codes and in its own words."""

from __future__ import annotations

import re
from dataclasses import dataclass
from json import JSONDecodeError
from urllib.parse import urlsplit

import httpx2
from huggingface_hub.errors import (
    DisabledRepoError,
    GatedRepoError,
    HfHubHTTPError,
    RemoteEntryNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from vllm_weights import logins, wire
from vllm_weights.denied import denied
from vllm_weights.failure import REFRESH, Reason, WeightsError
from vllm_weights.listing import RemoteFile
from vllm_weights.logins import BAD_TOKEN
from vllm_weights.ranges import length_of, of_another_length

THE_HUB = "huggingface.co"
_REJECTED = re.compile(r"(?i)\breject|\bdenied by|\brefused by|\bbanned\b|\bblocked by")
_TO_STRANGERS = re.compile(r"(?i)\blog ?in\b|be authenticated")
"""The hub's words at a gate to who has sent no token."""
_PENDING = re.compile(r"(?i)\bawait|\bpending\b|\breview")


@dataclass(frozen=True, slots=True)
class Asked:
    """Who is asked for which repository, and as whom."""

    endpoint: str
    host: str
    repo: str
    has_token: bool

    @property
    def is_the_hub(self) -> bool:
        """Whether it has the hub's own pages; a mirror has its files alone."""
        return urlsplit(self.endpoint).hostname == THE_HUB

    @property
    def has_login(self) -> bool:
        return "@" in urlsplit(self.endpoint).netloc

    def failure(self, error: HfHubHTTPError, revision: str, file: RemoteFile | None) -> WeightsError:
        """What the library's error means, of the listing or of a file."""
        response = error.response
        match error:
            case DisabledRepoError():
                return WeightsError(
                    Reason.REPO_NOT_FOUND,
                    f"{self.host} has disabled {self.repo}.",
                    "No token opens it: use another repository in spec.model, or a copy from elsewhere.",
                )
            case RevisionNotFoundError():
                return WeightsError(
                    Reason.REVISION_NOT_FOUND,
                    f"{self.repo} has no revision {revision!r}.",
                    f"Correct the revision where {self.repo} is named (revision, tokenizerRevision, adapters[].revision, or what stands behind the @): "
                    "a branch, a tag or a whole commit id; leave it out for main. "
                    f"Where that is a commit that was there before, the repository was rewritten: {REFRESH}."
                    + (
                        "" if self.is_the_hub else f" Where the hub has it, have {self.host} fetch the repository anew."
                    ),
                )
        if page := self._page_from_elsewhere(response):
            return self._in_its_place(page)
        if self._lost_the_token(response):
            return self._token_stays_behind(response)
        if isinstance(error, GatedRepoError):
            return self._gated(response)
        if file is not None and self._is_about(file, error):
            return self._file_is_gone(file, revision, response)
        if response.status_code == 416 and file is not None and (length := length_of(response)) is not None:
            return of_another_length(response, file, length, is_pinned=True)
        return self._by_status(error, file)

    def _by_status(self, error: HfHubHTTPError, file: RemoteFile | None) -> WeightsError:
        response = error.response
        if response.status_code == 401 and self._is_a_login(response):
            return logins.refused(
                response, self.host, is_the_hub=self.is_the_hub, has_token=self.has_token, has_login=self.has_login
            )
        if isinstance(error, RepositoryNotFoundError) or response.status_code in (401, 404):
            return self.not_found(response)
        if response.status_code == 403:
            return denied(response, self, self.repo if file is None else f"{file.path} of {self.repo}")
        if response.history and "/resolve/" not in response.url.path and file is not None:
            # No token is sent there, and none would help.
            return wire.common_failure(
                response, f"{response.url.host}, to which {self.host} redirects,", has_token=True
            )
        return wire.common_failure(response, self.host, has_token=self.has_token)

    def _is_about(self, file: RemoteFile, error: HfHubHTTPError) -> bool:
        is_missing = error.response.status_code in (404, 410) and "X-Error-Code" not in error.response.headers
        return is_missing or isinstance(error, RemoteEntryNotFoundError)

    def _page_from_elsewhere(self, response: httpx2.Response) -> str:
        """A page of another host that refuses: a gate for people, to which the mirror redirects."""
        is_elsewhere = bool(response.history) and response.url.host != urlsplit(self.endpoint).hostname
        is_refusal = response.status_code in (401, 403) and "X-Error-Code" not in response.headers
        if not (is_elsewhere and is_refusal and wire.is_page(response)):
            return ""
        said = wire.what_it_says(response)
        words = f": {said}" if said else ""
        return f"it redirects to {response.url.host}, which answers with a page (HTTP {response.status_code}{words})"

    def _lost_the_token(self, response: httpx2.Response) -> bool:
        hides = response.status_code == 404 and response.headers.get("X-Error-Code") == "RepoNotFound"
        wants_one = hides or response.status_code in (401, 403)
        went_on = bool(response.history) and "authorization" not in response.request.headers
        return self.has_token and wants_one and went_on

    def _token_stays_behind(self, response: httpx2.Response) -> WeightsError:
        other = response.url.netloc.decode()
        said = wire.what_it_says(response)
        words = f": {said}" if said else ""
        return WeightsError(
            Reason.HUB_REFUSED,
            f"{self.host} redirects to {other}, which wants a token (HTTP {response.status_code}{words}); ours goes to no other host "
            f"than {self.host}, the one that the settings name.",
            f"Where the token is of {other}, have hub.endpoint of the platform's settings name {response.url.scheme}://{other}{self._path_before(response)}; "
            f"else have {self.host} serve {self.repo} itself.",
        )

    def _path_before(self, response: httpx2.Response) -> str:
        """What stands in an address before the hub's own paths: a mirror's name in a repository manager."""
        path = response.url.path
        ends = [at for part in ("/api/models/", f"/{self.repo}/") if (at := path.find(part)) >= 0]
        return path[: min(ends)] if ends else ""

    def _is_a_login(self, response: httpx2.Response) -> bool:
        """The library takes a 401 without a code for a missing repository; with a token it is the token, as a rule.

        A mirror that answers so wants a login of its own; only the hub hides repositories from strangers by a 401.
        """
        if response.headers.get("X-Error-Message") == BAD_TOKEN or logins.is_a_gates(response):
            return True
        if "X-Error-Code" in response.headers:
            return False
        return self.has_token or (not self.is_the_hub and "X-Error-Message" not in response.headers)

    def not_understood(self, error: Exception, page: str = "") -> WeightsError:
        """Of an answer that is not the hub's; `page` is what a page in its place says, and from where."""
        # The library also fails like this while it words an error whose body is JSON, but no object: a gateway's 503.
        cause: BaseException | None = error
        while cause is not None:
            if isinstance(cause, httpx2.HTTPStatusError):
                return wire.common_failure(cause.response, self.host, has_token=self.has_token)
            cause = cause.__context__
        if page:
            return self._in_its_place(page)
        if isinstance(error, JSONDecodeError) and error.doc.lstrip().startswith("{"):
            return self._in_its_place(f"its listing is cut off, or damaged ({error})")
        return WeightsError(
            Reason.HUB_REFUSED,
            f"{self.host} did not answer as the hub does for {self.repo} ({type(error).__name__}: {error}).",
            "Check the endpoint (with its path), and whether a proxy answers in its place.",
        )

    def _in_its_place(self, what: str) -> WeightsError:
        return WeightsError(
            Reason.HUB_REFUSED,
            f"{self.host} did not answer as the hub does for {self.repo}: {what}.",
            "Check the endpoint (hub.endpoint of the platform's settings, with its path), and whether a proxy answers in its place, or a "
            "cache with what is out of date; where people are to sign in (SSO), have these pods reach the mirror without it, by a token or "
            "another address.",
        )

    def _gated(self, response: httpx2.Response) -> WeightsError:
        said = wire.what_it_says(response)
        message = f"{self.repo} is gated, and its authors have not let the token's owner in: {said}."
        if self.has_token and "fine-grained" in said:
            remedy = "Give the fine-grained token the permission that these words name (to read public gated repositories), or use another token."
            return WeightsError(Reason.GATED_REPO, message, remedy)
        if self.has_token and _REJECTED.search(said):
            return WeightsError(
                Reason.GATED_REPO,
                message,
                "That account cannot ask again: have the authors let it in after all, use the token of an account that has access, or another model.",
            )
        if self.has_token and _PENDING.search(said):
            return WeightsError(
                Reason.GATED_REPO,
                message,
                f"Wait until the authors let it in, then {REFRESH}; or use the token of an account that has access.",
            )
        if self.has_token and response.status_code == 401 and _TO_STRANGERS.search(said):
            return self._token_unseen(said)
        if self.is_the_hub:
            ask = f"Ask for access at https://{self.host}/{self.repo}"
        else:
            ask = f"Ask for access on the page of {self.repo} at the hub that {self.host} mirrors (huggingface.co, as a rule)"
        if self.has_token:
            why, remedy = "and the token's owner is not on its list", f"{ask} with the account that owns the token."
        else:
            why, remedy = "and no token is given", f"{ask}, then name a secret with that account's token."
        return WeightsError(Reason.GATED_REPO, f"{self.repo} is gated, {why}.", remedy)

    def _token_unseen(self, said: str) -> WeightsError:
        """The answer to a stranger, though a token went along: it got lost, or who asks the hub has none of its own."""
        if self.is_the_hub:
            remedy = (
                "What is on the way takes the token away (the Authorization header): ask who runs the proxy to let it through, or have NO_PROXY name "
                f"{self.host}. Where the token's account never asked for access, ask for it at https://{self.host}/{self.repo}."
            )
        else:
            remedy = (
                f"Have whoever runs {self.host} pass the token on, or ask the hub with one of an account that has access (in its own settings of "
                "that remote repository); or have hub.endpoint of the platform's settings name the hub itself."
            )
        return WeightsError(
            Reason.GATED_REPO,
            f"{self.repo} is gated, and {self.host} answers as to somebody without a token, though one was sent: {said}.",
            remedy,
        )

    def not_found(self, response: httpx2.Response | None = None) -> WeightsError:
        is_page = response is not None and response.status_code == 404 and wire.is_page(response)
        if response is not None and is_page and "X-Error-Code" not in response.headers:
            return self.not_understood(ValueError("404, with a page of another server"))
        said = wire.what_it_says(response) if response is not None and not self.is_the_hub else ""
        words = (
            f" ({said})" if said and "X-Error-Code" not in (response.headers if response is not None else {}) else ""
        )
        hint = "that the token may read it" if self.has_token else "if it is private, name a secret with a token"
        token = ", and passes tokens on" if self.has_token else ""
        of_mirror = (
            f"; else ask who runs {self.host} whether it mirrors this one, may and can ask the hub for it now{token}, and see that hub.endpoint of the "
            "platform's settings has its whole path, or have it name the hub itself"
        )
        return WeightsError(
            Reason.REPO_NOT_FOUND,
            f"{self.host} has no model {self.repo}, or hides it{words}.",
            f"Check the spelling; {hint}{self._odd_path() if self.is_the_hub else of_mirror}.",
        )

    def _odd_path(self) -> str:
        path = urlsplit(self.endpoint).path
        return f"; and that hub.endpoint of the platform's settings has no path ({path})" if path else ""

    def _file_is_gone(self, file: RemoteFile, revision: str, response: httpx2.Response) -> WeightsError:
        said = wire.what_it_says(response)
        words = f": {said}" if said else ""
        if self.is_the_hub:
            remedy = "The hub has lost it, or the repository was rewritten: name another revision, or have its owner upload the file again."
        else:
            remedy = (
                f"Have whoever runs {self.host} fetch the file (its copy is not whole, or it may not ask the hub that it mirrors), or have "
                "hub.endpoint of the platform's settings name the hub itself, or another mirror."
            )
        return WeightsError(
            Reason.WEIGHTS_MISSING,
            f"{self.host} lists {file.path} of {self.repo} at {revision[:12]} and does not have it (HTTP {response.status_code}){words}.",
            remedy,
        )
