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
    raise_for_status,
)

from vllm_weights import VERSION, wire
from vllm_weights.addresses import SETTINGS, host_of, whole_address
from vllm_weights.failure import Reason, WeightsError
from vllm_weights.listing import Digest, DigestKind, Listing, RemoteFile
from vllm_weights.lost import Stores
from vllm_weights.modelscope_refusals import DEFAULT_REVISION, Asked
from vllm_weights.ranges import body_of_range
from vllm_weights.tokens import bare_token


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
        # An empty token, not None: for None the library looks for one in the home folder.
        self._api = HubApi(_Config(endpoint=endpoint, token=token), user_agent=f"{wire.CLIENT_NAME}/{VERSION}")
        # As the library itself sends it: older endpoints look at the cookie, newer ones at the header.
        headers = {"Authorization": f"Bearer {token}", "Cookie": f"m_session_id={token}"} if token else {}
        self._client = wire.client(headers, silence_seconds, parallelism)
        self._stores = Stores(self.host, SETTINGS["MODELSCOPE_ENDPOINT"])
        self.asked_last = wire.asked_last(self._client, self.host)
        self._asked = Asked(endpoint, repo, bool(token), self._api, self._client)

    def listing(self, revision: str | None) -> Listing:
        """Every file of the revision (default `master`): one request, or one a folder where the server cuts the list."""
        self._asked.revision = revision or DEFAULT_REVISION
        with self._asked.errors_named():
            entries = self._api.list_repo_files(self.repo, "model", revision=self._asked.revision)
        files = tuple(sorted((_file(entry) for entry in entries if not entry.is_dir), key=lambda file: file.path))
        if not files:  # So it answers for a revision that it does not have, too, with status 200.
            raise self._asked.empty(self._said_instead())
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
        url = self._api.legacy.get_download_url(self.repo, "model", file.path, self._asked.revision)
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
                raise self._asked.failure(_error_of(response), file, wire.retry_after(response.headers))
            # A store's address with the checksum in it is of this content, and of none that came later.
            is_pinned = bool(file.digest.value) and file.digest.value in str(response.url)
            pieces = body_of_range(response, file, start, end, is_pinned=is_pinned)
            if is_store:
                self._stores.gave(response)
            yield pieces

    def _said_instead(self) -> str:
        """What an answer with status 200 says in place of a list, and which the library takes for an empty one."""
        url = f"{self._endpoint}/api/v1/models/{self.repo}/repo/files"
        try:
            answer = self._client.get(url, params={"Revision": self._asked.revision, "Recursive": "True"}).json()
        except (httpx2.HTTPError, httpx2.InvalidURL, ValueError):
            return ""
        is_none = isinstance(answer, dict) and (answer.get("Success") is False or answer.get("Code", 200) != 200)
        return wire.words_of(str(answer.get("Message") or "")) if is_none else ""

    def checksum_is_none(self, file: RemoteFile) -> bool:
        """Never: the digests are of the content."""
        return False

    def close(self) -> None:
        self._client.close()


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
