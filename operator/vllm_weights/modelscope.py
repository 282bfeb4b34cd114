"""ModelScope, by the API its own client uses. Every file has a SHA-256; the repository's commit is not told.

The commit is therefore a hash over names, sizes and checksums, and a pull asks for the revision and compares.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit

import httpx2

from vllm_weights import wire
from vllm_weights.failure import Reason, WeightsError
from vllm_weights.listing import Digest, DigestKind, Listing, RemoteFile

DEFAULT_ENDPOINT = "https://modelscope.cn"
DEFAULT_REVISION = "master"
CUT_AT_FILES = 3000
"""The server cuts a longer listing without a word."""


class ModelScope:
    """One model of ModelScope; a Source."""

    def __init__(self, repo: str, environment: Mapping[str, str], *, silence_seconds: float, parallelism: int) -> None:
        self.repo = repo
        endpoint = (environment.get("MODELSCOPE_ENDPOINT") or DEFAULT_ENDPOINT).rstrip("/")
        self.host = urlsplit(endpoint).netloc or endpoint
        self._url = f"{endpoint}/api/v1/models/{repo}"
        token = (environment.get("MODELSCOPE_API_TOKEN") or "").strip()
        self.has_token = bool(token)
        # Older endpoints look at the cookie, newer ones at the header.
        headers = {"Authorization": f"Bearer {token}", "Cookie": f"m_session_id={token}"} if token else {}
        self._client = wire.client(headers, silence_seconds, parallelism)
        self._revision = DEFAULT_REVISION

    def listing(self, revision: str | None) -> Listing:
        """One request: every file of the revision (default `master`)."""
        self._revision = revision or DEFAULT_REVISION
        with wire.connection_errors_named(self.host):
            response = self._client.get(
                f"{self._url}/repo/files", params={"Revision": self._revision, "Recursive": "True"}
            )
        if response.status_code != 200:
            raise self._failure(response)
        entries = self._entries(response)
        files = tuple(_file(entry) for entry in entries if entry.get("Type") != "tree")
        if len(entries) >= CUT_AT_FILES:
            raise WeightsError(
                Reason.HUB_REFUSED,
                f"{self.repo} holds {CUT_AT_FILES} files or more, and {self.host} lists no more than that.",
                "Use a smaller repository, or another source of the same model.",
            )
        text = "".join(f"{file.path}\0{file.size}\0{file.digest.value}\n" for file in sorted(files, key=_path))
        return Listing(hashlib.sha256(text.encode()).hexdigest()[:40], files)

    @contextmanager
    def stream(self, commit: str, file: RemoteFile, start: int, end: int) -> Iterator[Iterator[bytes | memoryview]]:
        params = {"Revision": self._revision, "FilePath": file.path}
        headers = {"Range": f"bytes={start}-{end - 1}"}
        with (
            wire.connection_errors_named(self.host),
            self._client.stream("GET", f"{self._url}/repo", params=params, headers=headers) as response,
        ):
            if response.status_code not in (200, 206):
                response.read()
                raise self._failure(response, file)
            yield wire.body_of_range(response, file, start, end)

    def checksum_is_none(self, file: RemoteFile) -> bool:
        """Never: the digests are of the content."""
        return False

    def close(self) -> None:
        self._client.close()

    def _entries(self, response: httpx2.Response) -> list[dict[str, Any]]:
        answer = wire.json_object(response, self.host)
        data = answer.get("Data")
        entries = data.get("Files") if isinstance(data, dict) else None
        if not isinstance(entries, list):
            raise WeightsError(
                Reason.HUB_REFUSED,
                f"{self.host} refused to list {self.repo}: {answer.get('Message') or 'no files in its answer'}.",
                "Check the name, and MODELSCOPE_ENDPOINT.",
            )
        return entries

    def _failure(self, response: httpx2.Response, file: RemoteFile | None = None) -> WeightsError:
        status = response.status_code
        if status == 401 or (status == 403 and not self.has_token):
            return self._no_access()
        if status == 403:
            return WeightsError(
                Reason.INVALID_TOKEN,
                f"{self.host} denies access to {self.repo}.",
                "Ask its owner for access with the account that owns the token.",
            )
        if status == 404 and file is not None:
            return WeightsError(
                Reason.WEIGHTS_MISSING, f"{self.repo} has no {file.path} any more.", "Inspect the model again."
            )
        if status == 404:
            return self._missing()
        return wire.common_failure(response, self.host)

    def _no_access(self) -> WeightsError:
        if self.has_token:
            how, remedy = "does not accept the token", "Put a valid token into the secret (MODELSCOPE_API_TOKEN)."
            return WeightsError(Reason.INVALID_TOKEN, f"{self.host} {how}.", remedy)
        return WeightsError(
            Reason.REPO_NOT_FOUND,
            f"{self.host} hides {self.repo} from strangers.",
            "Check the spelling; if it is private, name a secret with MODELSCOPE_API_TOKEN.",
        )

    def _missing(self) -> WeightsError:
        """A missing revision and a missing repository are both a 404; the repository itself tells them apart."""
        with wire.connection_errors_named(self.host):
            exists = self._client.get(self._url).status_code == 200
        if exists:
            return WeightsError(
                Reason.REVISION_NOT_FOUND,
                f"{self.repo} has no revision {self._revision!r}.",
                "Correct spec.revision: a branch or a tag; leave it out for master.",
            )
        return WeightsError(Reason.REPO_NOT_FOUND, f"{self.host} has no model {self.repo}.", "Check the spelling.")


def _path(file: RemoteFile) -> str:
    return file.path


def _file(entry: Mapping[str, Any]) -> RemoteFile:
    sha256 = str(entry.get("Sha256") or "").lower()
    digest = Digest(DigestKind.SHA256, sha256) if sha256 else Digest(DigestKind.NONE)
    return RemoteFile(str(entry.get("Path")), int(entry.get("Size") or 0), digest)
