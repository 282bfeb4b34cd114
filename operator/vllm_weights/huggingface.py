"""The Hugging Face hub, or a mirror that speaks its protocol (HF_ENDPOINT), by the hub's own client library.

The library asks for the listing, builds addresses and headers and tells errors apart. The bytes come through a client
of ours, since its downloads can neither go on inside a segment nor hash while they write.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from json import JSONDecodeError
from urllib.parse import quote, urlsplit

import httpx2
from huggingface_hub import HfApi, constants, hf_hub_url
from huggingface_hub.errors import (
    HfHubHTTPError,
    HFValidationError,
    OfflineModeIsEnabled,
)
from huggingface_hub.hf_api import BlobLfsInfo, RepoFile, RepoSibling

# Documented, though the library's types do not say that it exports them.
from huggingface_hub.utils import build_hf_headers, hf_raise_for_status  # type: ignore[attr-defined]

from vllm_weights import VERSION, wire
from vllm_weights.addresses import SETTINGS, host_of, whole_address
from vllm_weights.failure import Reason, WeightsError
from vllm_weights.headers import DTYPE, MOST, MOST_DTYPES
from vllm_weights.hub_refusals import Asked
from vllm_weights.listing import Digest, DigestKind, Listing, RemoteFile
from vllm_weights.lost import Stores
from vllm_weights.ranges import body_of_range
from vllm_weights.tokens import bare_token

DEFAULT_ENDPOINT = "https://huggingface.co"
COMMIT = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
LARGEST_FILE_BYTES = 1 << 50
"""A pebibyte: what says more is no listing of files."""

# Else the library asks the hub for a list of agents and keeps it on the disk. It reads its variable when it is first
# imported, which may have been before us.
constants.HF_HUB_DISABLE_TELEMETRY = True


class HuggingFace:
    """One repository of the hub; a Source."""

    wrong_bytes = "A proxy or mirror serves wrong bytes: clear its cache, or have the hub itself be asked (hub.endpoint of the platform's settings)."

    def __init__(self, repo: str, environment: Mapping[str, str], *, silence_seconds: float, parallelism: int) -> None:
        self.repo = repo
        self.endpoint = whole_address("HF_ENDPOINT", environment.get("HF_ENDPOINT") or DEFAULT_ENDPOINT)
        self.host = host_of(self.endpoint)
        token = bare_token(environment, "HF_TOKEN", "HUGGING_FACE_HUB_TOKEN")
        self._asked = Asked(self.endpoint, self.host, repo, bool(token))
        self._stores = Stores(self.host, SETTINGS["HF_ENDPOINT"])
        self._silence_seconds = silence_seconds
        # False, not None: for None the library looks for a token in the home folder.
        self._api = HfApi(self.endpoint, token or False, library_name=wire.CLIENT_NAME, library_version=VERSION)
        self._headers = build_hf_headers(token=token or False, library_name=wire.CLIENT_NAME, library_version=VERSION)
        self._client = wire.client({}, silence_seconds, parallelism)
        self.asked_last = wire.asked_last(self._client, self.host)

    def listing(self, revision: str | None) -> Listing:
        """One request: the commit of the revision (default `main`) and its files with sizes and checksums."""
        wanted = revision or constants.DEFAULT_REVISION
        with wire.connection_errors_named(self.host, self.endpoint), self._errors_named(wanted):
            info = self._api.model_info(self.repo, revision=wanted, files_metadata=True, timeout=self._silence_seconds)
            files = {file.path: file for file in map(_file, info.siblings or [])}
            parameters = _parameters(info.safetensors.parameters) if info.safetensors else {}
            if any(file.size < 0 for file in files.values()) and info.sha:
                # Mirrors leave the question for sizes out (Olah), and have them in the tree all the same.
                files |= {file.path: file for file in self._tree(info.sha)}
        if any(file.size < 0 for file in files.values()):
            raise WeightsError(
                Reason.HUB_REFUSED,
                f"{self.host} lists the files of {self.repo} without their sizes.",
                "This mirror does not speak the whole protocol: have hub.endpoint of the platform's settings name another.",
            )
        if not info.sha or not COMMIT.fullmatch(str(info.sha)):
            raise self._asked.not_understood(ValueError(f"the commit is {str(info.sha)[:60]!a}"))
        return Listing(str(info.sha), tuple(files.values()), parameters)

    def _tree(self, commit: str) -> Iterator[RemoteFile]:
        try:
            for entry in self._api.list_repo_tree(self.repo, recursive=True, revision=commit):
                if isinstance(entry, RepoFile):
                    yield RemoteFile(entry.path, _size(entry.size), _digest(entry.blob_id, entry.lfs))
        except (HfHubHTTPError, ValueError, KeyError, TypeError):  # One that has no tree, either.
            return

    @contextmanager
    def stream(self, commit: str, file: RemoteFile, start: int, end: int) -> Iterator[Iterator[bytes | memoryview]]:
        url = hf_hub_url(self.repo, file.path, revision=commit, endpoint=self.endpoint)
        headers = {**self._headers, "Range": f"bytes={start}-{end - 1}"}
        with (
            wire.connection_errors_named(self.host, self.endpoint),
            self._client.stream("GET", url, headers=headers) as response,
        ):
            if _is_store(response):
                self._stores.check(response, file)
            with self._errors_named(commit, file):
                hf_raise_for_status(response)
            if response.status_code not in (200, 206):
                raise wire.common_failure(response, self.host)
            pieces = body_of_range(response, file, start, end, is_pinned=True)
            if _is_store(response):
                self._stores.gave(response)
            yield pieces

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
            raise self._asked.failure(error, revision, file) from error
        except HFValidationError as error:  # No hub has a repository of such a name.
            raise self._asked.not_found() from error
        except OfflineModeIsEnabled as error:
            raise WeightsError(
                Reason.INVALID_ARGUMENT,
                "HF_HUB_OFFLINE is set, and the hub may not be asked.",
                "Remove it from the environment of this program.",
            ) from error
        except (ValueError, KeyError, TypeError, AttributeError) as error:  # An answer of another shape than the hub's.
            raise self._asked.not_understood(error, "" if file else self._page(revision, error)) from error

    def _instead(self, response: httpx2.Response, error: Exception) -> str:
        """Words of an answer that is no page and no listing. Raises HubUnreachable where it is a listing this time."""
        try:
            answer = response.json()
        except ValueError:
            return ""
        if not isinstance(answer, dict):
            return ""
        if "siblings" in answer and isinstance(error, JSONDecodeError):
            raise wire.unreachable(self.host, "the listing broke off")
        note = next((answer[key] for key in ("error", "message") if isinstance(answer.get(key), str)), "")
        return f"it answers {wire.words_of(note)!r}" if note else ""

    def _page(self, revision: str, error: Exception) -> str:
        """What comes in the listing's place, and from where; "" where nothing tells. The library shows neither."""
        url = f"{self.endpoint}/api/models/{self.repo}/revision/{quote(revision, safe='')}"
        try:
            response = self._client.get(url, headers=self._headers)
        except (httpx2.HTTPError, httpx2.InvalidURL, RuntimeError):
            return ""
        if not wire.is_page(response):
            return self._instead(response, error)
        said = wire.what_it_says(response)
        title = f" ({said})" if said else ""
        is_elsewhere = response.history and response.url.host != urlsplit(self.endpoint).hostname
        return (
            f"it redirects to {response.url.host}, which answers with a page{title}"
            if is_elsewhere
            else f"a page comes{title}"
        )


def _is_store(response: httpx2.Response) -> bool:
    """Whether the hub passed the request on to where its files are."""
    return bool(response.history) and "/resolve/" not in response.url.path


def _file(sibling: RepoSibling) -> RemoteFile:
    """Raises TypeError or ValueError for what no hub says; a file without a size has -1."""
    size = _size(sibling.size)
    if sibling.lfs is not None:
        size = _size(sibling.lfs.size or sibling.size)
    if not isinstance(sibling.rfilename, str):
        raise TypeError("a file has no name")
    return RemoteFile(sibling.rfilename, size, _digest(sibling.blob_id, sibling.lfs))


def _digest(blob_id: str | None, lfs: BlobLfsInfo | None) -> Digest:
    if lfs is not None and lfs.sha256:
        return Digest(DigestKind.SHA256, lfs.sha256.lower())
    return Digest(DigestKind.GIT_BLOB, blob_id.lower()) if blob_id else Digest(DigestKind.NONE)


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
