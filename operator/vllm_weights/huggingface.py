"""The Hugging Face hub, or a mirror that speaks its protocol (HF_ENDPOINT)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any
from urllib.parse import quote, urlsplit

import httpx2

from vllm_weights import wire
from vllm_weights.failure import Reason, WeightsError
from vllm_weights.listing import Digest, DigestKind, Listing, RemoteFile

DEFAULT_ENDPOINT = "https://huggingface.co"
BAD_TOKEN = "Invalid credentials in Authorization header"
"""The hub's words: a 401 with them is about the token, any other one about the repository."""


class HuggingFace:
    """One repository of the hub; a Source."""

    def __init__(self, repo: str, environment: Mapping[str, str], *, silence_seconds: float, parallelism: int) -> None:
        self.repo = repo
        self.endpoint = (environment.get("HF_ENDPOINT") or DEFAULT_ENDPOINT).rstrip("/")
        self.host = urlsplit(self.endpoint).netloc or self.endpoint
        token = (environment.get("HF_TOKEN") or environment.get("HUGGING_FACE_HUB_TOKEN") or "").strip()
        self.has_token = bool(token)
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        self._client = wire.client(headers, silence_seconds, parallelism)

    def listing(self, revision: str | None) -> Listing:
        """One request: the commit of the revision (default `main`) and its files with sizes and checksums."""
        wanted = revision or "main"
        url = f"{self.endpoint}/api/models/{self.repo}/revision/{quote(wanted, safe='')}"
        with wire.connection_errors_named(self.host):
            response = self._client.get(url, params={"blobs": "true"})
        if response.status_code != 200:
            raise self._failure(response, wanted)
        answer = wire.json_object(response, self.host)
        siblings = answer.get("siblings") or []
        if any(entry.get("size") is None and not entry.get("lfs") for entry in siblings):
            raise WeightsError(
                Reason.HUB_REFUSED,
                f"{self.host} lists the files of {self.repo} without their sizes.",
                "This mirror does not speak the whole protocol: use another HF_ENDPOINT.",
            )
        files = tuple(_file(entry) for entry in siblings)
        parameters = (answer.get("safetensors") or {}).get("parameters") or {}
        return Listing(str(answer.get("sha")), files, {str(key): int(value) for key, value in parameters.items()})

    @contextmanager
    def stream(self, commit: str, file: RemoteFile, start: int, end: int) -> Iterator[Iterator[bytes | memoryview]]:
        url = f"{self.endpoint}/{self.repo}/resolve/{commit}/{quote(file.path)}"
        headers = {"Range": f"bytes={start}-{end - 1}"}
        with (
            wire.connection_errors_named(self.host),
            self._client.stream("GET", url, headers=headers) as response,
        ):
            if response.status_code not in (200, 206):
                response.read()
                raise self._failure(response, commit, file)
            yield wire.body_of_range(response, file, start, end)

    def checksum_is_none(self, file: RemoteFile) -> bool:
        """Never: the hub's digests are of the content."""
        return False

    def close(self) -> None:
        self._client.close()

    def _failure(self, response: httpx2.Response, revision: str, file: RemoteFile | None = None) -> WeightsError:
        code = response.headers.get("X-Error-Code")
        said = response.headers.get("X-Error-Message", "")
        if code == "GatedRepo":
            return self._gated()
        if code == "RevisionNotFound":
            return WeightsError(
                Reason.REVISION_NOT_FOUND,
                f"{self.repo} has no revision {revision!r}.",
                "Correct spec.revision: a branch, a tag or a whole commit id; leave it out for main.",
            )
        if code == "EntryNotFound" and file is not None:
            return WeightsError(
                Reason.WEIGHTS_MISSING,
                f"{self.repo} has no file {file.path} at {revision}.",
                "The revision was rewritten: inspect the model again.",
            )
        if response.status_code == 401 and (said == BAD_TOKEN or (self.has_token and code is None)):
            return self._bad_token()
        if code == "RepoNotFound" or response.status_code in (401, 404):
            return self._not_found()
        if response.status_code == 403:
            return self._denied(said)
        return wire.common_failure(response, self.host)

    def _gated(self) -> WeightsError:
        ask = f"Ask for access at {self.endpoint}/{self.repo}"
        if self.has_token:
            why, remedy = "and the token's owner is not on its list", f"{ask} with the account that owns the token."
        else:
            why, remedy = "and no token is given", f"{ask}, then name a secret with that account's token."
        return WeightsError(Reason.GATED_REPO, f"{self.repo} is gated, {why}.", remedy)

    def _not_found(self) -> WeightsError:
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
            f"Put a valid token with read access into the secret ({self.endpoint}/settings/tokens).",
        )

    def _denied(self, said: str) -> WeightsError:
        return WeightsError(
            Reason.INVALID_TOKEN,
            f"{self.host} denies access to {self.repo}: {said or 'HTTP 403'}.",
            "Give the token read access to this repository (fine-grained tokens list them one by one).",
        )


def _file(entry: Mapping[str, Any]) -> RemoteFile:
    lfs = entry.get("lfs") or {}
    if lfs.get("sha256"):
        digest = Digest(DigestKind.SHA256, str(lfs["sha256"]))
    elif entry.get("blobId"):
        digest = Digest(DigestKind.GIT_BLOB, str(entry["blobId"]))
    else:
        digest = Digest(DigestKind.NONE)
    return RemoteFile(str(entry["rfilename"]), int(lfs.get("size") or entry.get("size") or 0), digest)
