"""What the hub's API answers, as JSON: model info, trees, references, and its errors with their headers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from tests.hub.repos import Commit, HubFile, Repos

CREATED = "2026-01-01T00:00:00.000Z"


@dataclass(frozen=True, slots=True)
class HubError(Exception):
    """An error as the hub words it: status, `X-Error-Code` (may be absent) and `X-Error-Message`."""

    status: int
    code: str | None
    message: str


def repo_not_found(with_token: bool) -> HubError:
    """Strangers are told 401, so that they cannot find out which private repositories exist."""
    if with_token:
        return HubError(404, "RepoNotFound", "Repository not found")
    return HubError(401, "RepoNotFound", "Invalid username or password.")


def bad_token() -> HubError:
    return HubError(401, None, "Invalid credentials in Authorization header")


def gated(repo: str, with_token: bool) -> HubError:
    if with_token:
        message = (
            f"Access to model {repo} is restricted and you are not in the authorized list. "
            f"Visit https://huggingface.co/{repo} to ask for access."
        )
        return HubError(403, "GatedRepo", message)
    message = (
        f"Access to model {repo} is restricted. You must have access to it and be authenticated to access it. "
        "Please log in."
    )
    return HubError(401, "GatedRepo", message)


def revision_not_found(revision: str) -> HubError:
    return HubError(404, "RevisionNotFound", f"Invalid rev id: {revision}")


def entry_not_found() -> HubError:
    return HubError(404, "EntryNotFound", "Entry not found")


def lfs_entry(file: HubFile) -> dict[str, Any]:
    return {"sha256": file.sha256, "size": file.size, "pointerSize": file.pointer_size}


def sibling(file: HubFile, blobs: bool) -> dict[str, Any]:
    entry: dict[str, Any] = {"rfilename": file.path}
    if blobs:
        entry |= {"size": file.size, "blobId": file.oid}
        if file.sha256:
            entry["lfs"] = lfs_entry(file)
    return entry


def model_info(repos: Repos, repo: str, commit: Commit, blobs: bool) -> dict[str, Any]:
    """The answer of `/api/models/{repo}[/revision/{rev}]`; with `blobs` each file has size and digests."""
    return {
        "_id": commit.sha[:24],
        "id": repo,
        "modelId": repo,
        "author": repo.split("/")[0],
        "sha": commit.sha,
        "lastModified": CREATED,
        "createdAt": CREATED,
        "private": repos.is_private(repo),
        "gated": "manual" if repos.gate(repo) is not None else False,
        "disabled": False,
        "downloads": 0,
        "likes": 0,
        "tags": [],
        "siblings": [sibling(file, blobs) for file in commit.files],
        "usedStorage": sum(file.size for file in commit.files),
    }


def tree_entry(file: HubFile) -> dict[str, Any]:
    entry: dict[str, Any] = {"type": "file", "oid": file.oid, "size": file.size, "path": file.path}
    if file.sha256:
        entry["lfs"] = {"oid": file.sha256, "size": file.size, "pointerSize": file.pointer_size}
    return entry


def tree(commit: Commit, under: str, recursive: bool) -> list[dict[str, Any]]:
    """The answer of `/api/models/{repo}/tree/{rev}[/{under}]`: files, and the folders on the way."""
    prefix = f"{under}/" if under else ""
    inside = [file for file in commit.files if file.path.startswith(prefix)]
    if not inside and under:
        raise entry_not_found()
    folders: dict[str, None] = {}
    files = []
    for file in inside:
        parts = file.path.removeprefix(prefix).split("/")
        depth = len(parts) if recursive else min(len(parts), 2)
        for count in range(1, depth):
            folders[prefix + "/".join(parts[:count])] = None
        if recursive or len(parts) == 1:
            files.append(tree_entry(file))
    return [{"type": "directory", "oid": commit.sha, "size": 0, "path": path} for path in folders] + files


def refs(repos: Repos, repo: str) -> dict[str, Any]:
    entries = [
        {"name": name, "ref": f"refs/heads/{name}", "targetCommit": sha} for name, sha in repos.references(repo).items()
    ]
    return {"branches": entries, "converts": [], "tags": []}


def whoami(name: str) -> dict[str, Any]:
    token = {"displayName": "test", "role": "read", "createdAt": CREATED}
    return {
        "type": "user",
        "id": name,
        "name": name,
        "fullname": name,
        "orgs": [],
        "auth": {"type": "access_token", "accessToken": token},
    }
