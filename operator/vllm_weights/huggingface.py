"""The Hugging Face hub, or a mirror that speaks its protocol (HF_ENDPOINT), by the hub's own client library.

The library asks for the listing, builds addresses and headers and tells errors apart. The bytes come through a client
of ours, since its downloads can neither go on inside a segment nor hash while they write.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from urllib.parse import urlsplit

import httpx2
from huggingface_hub import HfApi, constants, hf_hub_url
from huggingface_hub.errors import (
    DisabledRepoError,
    GatedRepoError,
    HfHubHTTPError,
    HFValidationError,
    OfflineModeIsEnabled,
    RemoteEntryNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from huggingface_hub.hf_api import RepoSibling

# Documented, though the library's types do not say that it exports them.
from huggingface_hub.utils import build_hf_headers, hf_raise_for_status  # type: ignore[attr-defined]

from vllm_weights import VERSION, wire
from vllm_weights.failure import Reason, WeightsError
from vllm_weights.headers import DTYPE, MOST, MOST_DTYPES
from vllm_weights.listing import Digest, DigestKind, Listing, RemoteFile
from vllm_weights.tokens import bare_token

DEFAULT_ENDPOINT = "https://huggingface.co"
BAD_TOKEN = "Invalid credentials in Authorization header"
"""The hub's words: a 401 with them is about the token, any other one about the repository."""

_NOT_THE_TOKEN = re.compile(r"(?i)\bIP\b|\baddress|\bnetwork|allow-?\s?list|\bpolicy\b|proxy|firewall")
"""In what a 403 says: that nobody is let through from here, whatever the token."""
_LET_THROUGH = "where an allow-list of the hub or the organization, or a proxy on the way, refuses, ask who runs it to let the cluster through."

COMMIT = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
LARGEST_FILE_BYTES = 1 << 50
"""A pebibyte: what says more is no listing of files."""

# Else the library asks the hub for a list of agents and keeps it on the disk. It reads its variable when it is first
# imported, which may have been before us.
constants.HF_HUB_DISABLE_TELEMETRY = True


class HuggingFace:
    """One repository of the hub; a Source."""

    def __init__(self, repo: str, environment: Mapping[str, str], *, silence_seconds: float, parallelism: int) -> None:
        self.repo = repo
        self.endpoint = wire.whole_address("HF_ENDPOINT", environment.get("HF_ENDPOINT") or DEFAULT_ENDPOINT)
        self.host = wire.host_of(self.endpoint)
        self._page = urlsplit(self.endpoint)._replace(netloc=self.host).geturl()
        token = bare_token(environment, "HF_TOKEN", "HUGGING_FACE_HUB_TOKEN")
        self.has_token = bool(token)
        self._silence_seconds = silence_seconds
        # False, not None: for None the library looks for a token in the home folder.
        self._api = HfApi(self.endpoint, token or False, library_name=wire.CLIENT_NAME, library_version=VERSION)
        self._headers = build_hf_headers(token=token or False, library_name=wire.CLIENT_NAME, library_version=VERSION)
        self._client = wire.client({}, silence_seconds, parallelism)

    def listing(self, revision: str | None) -> Listing:
        """One request: the commit of the revision (default `main`) and its files with sizes and checksums."""
        wanted = revision or constants.DEFAULT_REVISION
        with wire.connection_errors_named(self.host), self._errors_named(wanted):
            info = self._api.model_info(self.repo, revision=wanted, files_metadata=True, timeout=self._silence_seconds)
            files = {file.path: file for file in map(_file, info.siblings or [])}
            parameters = _parameters(info.safetensors.parameters) if info.safetensors else {}
        if any(file.size < 0 for file in files.values()):
            raise WeightsError(
                Reason.HUB_REFUSED,
                f"{self.host} lists the files of {self.repo} without their sizes.",
                "This mirror does not speak the whole protocol: use another HF_ENDPOINT.",
            )
        if not info.sha or not COMMIT.fullmatch(str(info.sha)):
            raise self._not_understood(ValueError(f"the commit is {str(info.sha)[:60]!a}"))
        return Listing(str(info.sha), tuple(files.values()), parameters)

    @contextmanager
    def stream(self, commit: str, file: RemoteFile, start: int, end: int) -> Iterator[Iterator[bytes | memoryview]]:
        url = hf_hub_url(self.repo, file.path, revision=commit, endpoint=self.endpoint)
        headers = {**self._headers, "Range": f"bytes={start}-{end - 1}"}
        with (
            wire.connection_errors_named(self.host),
            self._client.stream("GET", url, headers=headers) as response,
        ):
            self._check_store(response)
            with self._errors_named(commit, file):
                hf_raise_for_status(response)
            if response.status_code not in (200, 206):
                raise wire.common_failure(response, self.host)
            yield wire.body_of_range(response, file, start, end)

    def _check_store(self, response: httpx2.Response) -> None:
        """What the store says to which the hub redirects is about its signed address, which the next try gets anew."""
        is_store = bool(response.history) and "/resolve/" not in response.url.path
        if is_store and 400 <= response.status_code < 500 and response.status_code not in (408, 429):
            raise wire.unreachable(
                self.host, f"HTTP {response.status_code} from {response.url.host}, where its files are"
            )

    def checksum_is_none(self, file: RemoteFile) -> bool:
        """Never: the hub's digests are of the content."""
        return False

    def close(self) -> None:
        self._client.close()

    @contextmanager
    def _errors_named(self, revision: str, file: RemoteFile | None = None) -> Iterator[None]:
        """Turns the library's exceptions into ours."""
        try:
            yield
        except HfHubHTTPError as error:
            raise self._failure(error, revision, file) from error
        except HFValidationError as error:  # No hub has a repository of such a name.
            raise self._not_found() from error
        except OfflineModeIsEnabled as error:
            raise WeightsError(
                Reason.INVALID_ARGUMENT,
                "HF_HUB_OFFLINE is set, and the hub may not be asked.",
                "Remove it from the environment of this program.",
            ) from error
        except (ValueError, KeyError, TypeError, AttributeError) as error:  # An answer of another shape than the hub's.
            raise self._not_understood(error) from error

    def _failure(self, error: HfHubHTTPError, revision: str, file: RemoteFile | None) -> WeightsError:
        match error:
            case GatedRepoError():
                return self._gated()
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
                    "Correct spec.revision: a branch, a tag or a whole commit id; leave it out for main. "
                    "Where that is a commit that was there before, the repository was rewritten: inspect the model again.",
                )
            case RemoteEntryNotFoundError() if file is not None:
                return WeightsError(
                    Reason.WEIGHTS_MISSING,
                    f"{self.repo} has no file {file.path} at {revision}.",
                    "The revision was rewritten: inspect the model again.",
                )
        response = error.response
        if response.status_code == 401 and self._is_about_the_token(response):
            return self._bad_token()
        if isinstance(error, RepositoryNotFoundError) or response.status_code in (401, 404):
            return self._not_found(response)
        if response.status_code == 403:
            return self._denied(response)
        return wire.common_failure(response, self.host)

    def _is_about_the_token(self, response: httpx2.Response) -> bool:
        """The library takes a 401 without a code for a missing repository; with a token it is the token, as a rule."""
        said = response.headers.get("X-Error-Message")
        return said == BAD_TOKEN or (self.has_token and "X-Error-Code" not in response.headers)

    def _not_understood(self, error: Exception) -> WeightsError:
        # The library also fails like this while it words an error whose body is JSON, but no object: a gateway's 503.
        cause: BaseException | None = error
        while cause is not None:
            if isinstance(cause, httpx2.HTTPStatusError):
                return wire.common_failure(cause.response, self.host)
            cause = cause.__context__
        return WeightsError(
            Reason.HUB_REFUSED,
            f"{self.host} did not answer as the hub does for {self.repo} ({type(error).__name__}: {error}).",
            "Check the endpoint (with its path), and whether a proxy answers in its place.",
        )

    def _gated(self) -> WeightsError:
        ask = f"Ask for access at {self._page}/{self.repo}"
        if self.has_token:
            why, remedy = "and the token's owner is not on its list", f"{ask} with the account that owns the token."
        else:
            why, remedy = "and no token is given", f"{ask}, then name a secret with that account's token."
        return WeightsError(Reason.GATED_REPO, f"{self.repo} is gated, {why}.", remedy)

    def _not_found(self, response: httpx2.Response | None = None) -> WeightsError:
        if (
            response is not None
            and response.status_code == 404
            and wire.is_page(response)
            and "X-Error-Code" not in response.headers
        ):
            return self._not_understood(ValueError("404, with a page of another server"))
        hint = "that the token may read it" if self.has_token else "if it is private, name a secret with a token"
        return WeightsError(
            Reason.REPO_NOT_FOUND,
            f"{self.host} has no model {self.repo}, or hides it.",
            f"Check the spelling; {hint}.",
        )

    def _bad_token(self) -> WeightsError:
        return WeightsError(
            Reason.INVALID_TOKEN,
            f"{self.host} does not accept the token: it is wrong, expired or revoked.",
            f"Put a valid token with read access into the secret ({self._page}/settings/tokens).",
        )

    def _denied(self, response: httpx2.Response) -> WeightsError:
        """Of a 403 without a gate: about the token where there is one, and neither a page nor the words are of something else."""
        said = response.headers.get("X-Error-Message", "").rstrip(". ")
        message = f"{self.host} denies access to {self.repo}: {said or 'HTTP 403'}."
        if not self.has_token:
            remedy = f"If it is private, name a secret with a token; {_LET_THROUGH}"
            return WeightsError(Reason.HUB_REFUSED, message, remedy)
        remedy = (
            f"Give the token read access to this repository (fine-grained tokens list them one by one); {_LET_THROUGH}"
        )
        is_elsewhere = (not said and wire.is_page(response)) or _NOT_THE_TOKEN.search(said)
        return WeightsError(Reason.HUB_REFUSED if is_elsewhere else Reason.INVALID_TOKEN, message, remedy)


def _file(sibling: RepoSibling) -> RemoteFile:
    """Raises TypeError or ValueError for what no hub says; a file without a size has -1."""
    size = _size(sibling.size)
    digest = Digest(DigestKind.GIT_BLOB, sibling.blob_id.lower()) if sibling.blob_id else Digest(DigestKind.NONE)
    if sibling.lfs is not None:
        size = _size(sibling.lfs.size or sibling.size)
        digest = Digest(DigestKind.SHA256, sibling.lfs.sha256.lower()) if sibling.lfs.sha256 else digest
    if not isinstance(sibling.rfilename, str):
        raise TypeError("a file has no name")
    return RemoteFile(sibling.rfilename, size, digest)


def _parameters(said: Mapping[str, int]) -> dict[str, int]:
    """What the hub counted, where it is a count."""
    if len(said) > MOST_DTYPES or not all(DTYPE.fullmatch(dtype) for dtype in said):
        return {}
    return {dtype: count for dtype, count in said.items() if isinstance(count, int) and 0 <= count <= MOST}


def _size(said: int | None) -> int:
    if said is None:
        return -1
    if not isinstance(said, int) or not 0 <= said <= LARGEST_FILE_BYTES:
        raise ValueError(f"a file has {str(said)[:40]} bytes")
    return said
