"""ModelScope, or a mirror that speaks its protocol (MODELSCOPE_ENDPOINT), by ModelScope's own client library.

The library lists the files, builds addresses and tells errors apart; the bytes come through a client of ours, as those
of the hub do. The commit of a revision is not told, and every file has a SHA-256: so the commit is a hash over names,
sizes and checksums, and a pull asks for the revision and compares.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from io import BytesIO
from pathlib import PurePosixPath

import httpx2
import requests
from modelscope_hub import APIError, FileInfo, HubApi, HubConfig, HubError
from modelscope_hub.constants import DEFAULT_ENDPOINT, REPO_FILES_TRUNCATION_LIMIT
from modelscope_hub.errors import (
    AuthenticationError,
    NetworkError,
    NotExistError,
    PermissionDeniedError,
    raise_for_status,
)

from vllm_weights import VERSION, blame, wire
from vllm_weights.addresses import SETTINGS, host_of, whole_address
from vllm_weights.failure import REFRESH, Reason, WeightsError
from vllm_weights.listing import Digest, DigestKind, Listing, RemoteFile
from vllm_weights.lost import Stores
from vllm_weights.ranges import body_of_range
from vllm_weights.tokens import bare_token

DEFAULT_REVISION = "master"


class _Config(HubConfig):
    """The library's configuration, without the home folder: nothing is kept in it, and no token is looked for there."""

    def get_session_id(self) -> str:
        """What the library tells one installation from another by, in each request: the same for all of ours."""
        return "0" * 32


class ModelScope:
    """One model of ModelScope; a Source."""

    wrong_bytes = "The upload is broken, or a proxy serves wrong bytes: clear its cache, or have the repository's owner upload the file again."

    def __init__(self, repo: str, environment: Mapping[str, str], *, silence_seconds: float, parallelism: int) -> None:
        self.repo = repo
        said = environment.get("MODELSCOPE_ENDPOINT") or DEFAULT_ENDPOINT
        self._endpoint = endpoint = whole_address("MODELSCOPE_ENDPOINT", HubConfig.normalize_endpoint(said))
        self.host = host_of(endpoint)
        token = bare_token(environment, "MODELSCOPE_API_TOKEN")
        self.has_token = bool(token)
        # An empty token, not None: for None the library looks for one in the home folder.
        self._api = HubApi(_Config(endpoint=endpoint, token=token), user_agent=f"{wire.CLIENT_NAME}/{VERSION}")
        # As the library itself sends it: older endpoints look at the cookie, newer ones at the header.
        headers = {"Authorization": f"Bearer {token}", "Cookie": f"m_session_id={token}"} if token else {}
        self._client = wire.client(headers, silence_seconds, parallelism)
        self._stores = Stores(self.host, SETTINGS["MODELSCOPE_ENDPOINT"])
        self.asked_last = wire.asked_last(self._client, self.host)
        self._revision = DEFAULT_REVISION

    def listing(self, revision: str | None) -> Listing:
        """Every file of the revision (default `master`): one request, or one a folder where the server cuts the list."""
        self._revision = revision or DEFAULT_REVISION
        with self._errors_named():
            entries = self._api.list_repo_files(self.repo, "model", revision=self._revision)
        files = tuple(sorted((_file(entry) for entry in entries if not entry.is_dir), key=lambda file: file.path))
        if not files:  # So it answers for a revision that it does not have, too, with status 200.
            raise self._empty() if self._revision == DEFAULT_REVISION else self._missing()
        in_folder = Counter(PurePosixPath(entry.path).parent for entry in entries)
        if max(in_folder.values()) >= REPO_FILES_TRUNCATION_LIMIT:
            raise WeightsError(
                Reason.HUB_REFUSED,
                f"A folder of {self.repo} holds {REPO_FILES_TRUNCATION_LIMIT} files or more, and {self.host} lists no more.",
                "Use a smaller repository, or another source of the same model.",
            )
        text = "".join(f"{file.path}\0{file.size}\0{file.digest.value}\n" for file in files)
        return Listing(hashlib.sha256(text.encode()).hexdigest()[:40], files)

    @contextmanager
    def stream(self, commit: str, file: RemoteFile, start: int, end: int) -> Iterator[Iterator[bytes | memoryview]]:
        url = self._api.legacy.get_download_url(self.repo, "model", file.path, self._revision)
        headers = {"Range": f"bytes={start}-{end - 1}"}
        with (
            wire.connection_errors_named(self.host, self._endpoint),
            self._client.stream("GET", url, headers=headers) as response,
        ):
            is_store = bool(response.history) and host_of(str(response.url)) != self.host
            if is_store:
                self._stores.check(response, file)
            if response.status_code not in (200, 206):
                response.read()
                raise self._failure(_error_of(response), file, wire.retry_after(response.headers))
            # A store's address with the checksum in it is of this content, and of none that came later.
            is_pinned = bool(file.digest.value) and file.digest.value in str(response.url)
            pieces = body_of_range(response, file, start, end, is_pinned=is_pinned)
            if is_store:
                self._stores.gave(response)
            yield pieces

    def checksum_is_none(self, file: RemoteFile) -> bool:
        """Never: the digests are of the content."""
        return False

    def close(self) -> None:
        self._client.close()

    @contextmanager
    def _errors_named(self) -> Iterator[None]:
        """Turns the library's exceptions into ours."""
        try:
            yield
        except HubError as error:
            raise self._failure(error, retry_after=getattr(error, "retry_after", None)) from error
        except (ValueError, KeyError, TypeError, AttributeError) as error:  # An answer of another shape than the hub's.
            raise WeightsError(
                Reason.HUB_REFUSED,
                f"{self.host} did not answer as ModelScope does for {self.repo} ({type(error).__name__}: {error}).",
                "Check the endpoint, and whether a proxy answers in its place.",
            ) from error
        except requests.RequestException as error:  # Where a body breaks off, the library lets it through.
            raise wire.unreachable(self.host, f"{type(error).__name__} {error}", self._endpoint) from error

    def _failure(
        self, error: HubError, file: RemoteFile | None = None, retry_after: float | None = None
    ) -> WeightsError:
        body = error.response_body if isinstance(error, APIError) else None
        said = wire.words_of(body if isinstance(body, str) else error.message)
        match error:
            case NotExistError() if file is not None:
                return self._gone(file)
            case NotExistError():
                return self._missing()
            case AuthenticationError() | PermissionDeniedError():
                return self._no_access(error, said)
            case NetworkError():
                return wire.unreachable(self.host, error.message, self._endpoint)
            case APIError(status_code=429):
                return wire.limited(self.host, said, _bounded(retry_after), has_token=self.has_token)
            case APIError(status_code=int(status)):
                if 400 <= status < 500 and isinstance(body, str) and "<" in body and blame.REFUSING.search(said):
                    return self._blocked(status, said)
                about = f"for {file.path if file else self.repo}" + (f": {said}" if said else "")
                return wire.status_failure(status, self.host, about, _bounded(retry_after))
        return WeightsError(Reason.HUB_REFUSED, f"{self.host} refused {self.repo}: {said}.", error.suggestion)

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

    def _gone(self, file: RemoteFile) -> WeightsError:
        if self.has_token and self._token_is_refused():
            return self._bad_token()
        remedy = f"It went away meanwhile: {REFRESH}, and the model is looked up again."
        return WeightsError(Reason.WEIGHTS_MISSING, f"{self.repo} has no {file.path} any more.", remedy)

    def _bad_token(self) -> WeightsError:
        return WeightsError(
            Reason.INVALID_TOKEN,
            f"{self.host} does not accept the token: it is wrong, expired or revoked.",
            "Put a valid token into the secret (MODELSCOPE_API_TOKEN).",
        )

    def _missing(self) -> WeightsError:
        """What is not there: the revision, the repository, or, since a bad token opens nothing and is not told, the token."""
        if self._revision != DEFAULT_REVISION and self._exists():
            return WeightsError(
                Reason.REVISION_NOT_FOUND,
                f"{self.repo} has no revision {self._revision!r}.",
                "Correct spec.revision: a branch or a tag; leave it out for master.",
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
            f"Check the spelling; {hint} (MODELSCOPE_API_TOKEN).",
        )

    def _exists(self) -> bool:
        # The library's list of revisions would tell, too, but it waits as long as a Retry-After says.
        with self._errors_named():
            try:
                self._api.list_repo_files(self.repo, "model", recursive=False)
            except NotExistError:
                return False
        return True

    def _token_is_refused(self) -> bool:
        try:
            self._api.whoami()
        except AuthenticationError:
            return True
        except (HubError, ValueError, KeyError, TypeError, AttributeError):  # A mirror without accounts.
            return False
        return False

    def _empty(self) -> WeightsError:
        return WeightsError(
            Reason.WEIGHTS_MISSING,
            f"{self.host} lists no files of {self.repo} at {self._revision}.",
            "Check the name and the revision; files that are hidden from strangers need a token.",
        )


def _bounded(seconds: float | None) -> float | None:
    return None if seconds is None else min(seconds, wire.LONGEST_RETRY_AFTER_SECONDS)


def _error_of(response: httpx2.Response) -> HubError:
    """The library's own error for an answer that a client of ours got."""
    answer = requests.Response()
    answer.status_code, answer.url = response.status_code, str(response.url)
    answer.headers.update(response.headers)
    answer.raw = BytesIO(response.content)
    try:
        raise_for_status(answer)
    except HubError as error:
        return error
    return APIError(f"HTTP {response.status_code}", status_code=response.status_code)


def _file(entry: FileInfo) -> RemoteFile:
    sha256 = (entry.sha256 or "").lower()
    digest = Digest(DigestKind.SHA256, sha256) if sha256 else Digest(DigestKind.NONE)
    return RemoteFile(entry.path, entry.size, digest)
