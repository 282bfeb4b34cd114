"""Folders on disk as repositories: files with their git ids, references and commits.

`<root>/<org>/<name>/` is one repository. Beside the model's files it may hold:
- `.refs.json`: `{"v1.0": ".", "dev": ".branches/dev"}`, further references, each a folder with that reference's files;
- `.gated`: only the tokens in it (one a line; none: any known token) may read files;
- `.private`: without a known token the repository does not exist;
- `.sha256.json`: digests of files by name, for those that are too large to be read for them.
`<root>/.tokens.json` holds the known tokens and whose they are: `{"hf_good": "alice"}`.
A name or token with `__` and more behind it is another name of the same folder or token: tests side by side break it each
for itself.
"""

from __future__ import annotations

import hashlib
import json
import threading
from dataclasses import dataclass
from pathlib import Path

LFS_SUFFIXES = (".safetensors", ".bin", ".pt", ".pth", ".gguf", ".onnx", ".msgpack", ".h5", ".model")
LFS_FROM_BYTES = 10 * 1024 * 1024
"""The hub keeps larger files in LFS whatever their name."""
DEFAULT_TOKENS = {"hf_test": "tester", "hf_other": "another tester"}


@dataclass(frozen=True, slots=True)
class HubFile:
    """One file of a commit. `oid` is the git blob's id: of the content, or of the pointer for an LFS file."""

    path: str
    on_disk: Path
    size: int
    oid: str
    sha256: str | None

    @property
    def etag(self) -> str:
        return self.sha256 or self.oid

    @property
    def pointer_size(self) -> int:
        return len(_pointer(self.sha256 or "", self.size))


@dataclass(frozen=True, slots=True)
class Commit:
    sha: str
    files: tuple[HubFile, ...]

    def file(self, path: str) -> HubFile | None:
        return next((file for file in self.files if file.path == path), None)


@dataclass(slots=True)
class Repos:
    """Every repository under a root; digests are kept as long as size and time of a file stay the same."""

    root: Path
    _digests: dict[str, tuple[int, int, str, str | None]]
    _lock: threading.Lock

    def __init__(self, root: Path) -> None:
        self.root = root.resolve()
        self._digests = {}
        self._lock = threading.Lock()

    def names(self) -> list[str]:
        found = (path for org in self.root.iterdir() if org.is_dir() for path in org.iterdir() if path.is_dir())
        return sorted(str(path.relative_to(self.root)) for path in found if not path.name.startswith("."))

    def folder(self, repo: str) -> Path | None:
        parts = repo.split("/")
        if len(parts) != 2 or any(part.startswith(".") or not part for part in parts):
            return None
        path = self._base(repo)
        return path if path.is_dir() else None

    def _base(self, repo: str) -> Path:
        return self.root / _plain(repo)

    def tokens(self) -> dict[str, str]:
        """Known tokens and their owners."""
        path = self.root / ".tokens.json"
        return dict(json.loads(path.read_text())) if path.exists() else DEFAULT_TOKENS

    def owner(self, token: str) -> str | None:
        """Whose token it is; None for an unknown one."""
        return self.tokens().get(_plain(token))

    def is_private(self, repo: str) -> bool:
        return (self._base(repo) / ".private").exists()

    def gate(self, repo: str) -> set[str] | None:
        """The tokens that pass the gate, None where there is no gate."""
        path = self._base(repo) / ".gated"
        if not path.exists():
            return None
        named = {line.strip() for line in path.read_text().splitlines() if line.strip()}
        return named or set(self.tokens())

    def passes_gate(self, repo: str, token: str | None) -> bool:
        gate = self.gate(repo)
        return gate is None or (token is not None and _plain(token) in gate)

    def references(self, repo: str) -> dict[str, str]:
        """Every branch and tag with its commit."""
        return {name: self.tree(repo, folder).sha for name, folder in self._folders(repo).items()}

    def commit(self, repo: str, revision: str) -> Commit | None:
        """The commit of a branch, a tag or a commit id (also shortened to seven digits or more)."""
        folders = self._folders(repo)
        if revision in folders:
            return self.tree(repo, folders[revision])
        for folder in dict.fromkeys(folders.values()):
            commit = self.tree(repo, folder)
            if len(revision) >= 7 and commit.sha.startswith(revision):
                return commit
        return None

    def tree(self, repo: str, folder: str) -> Commit:
        base = self._base(repo) / folder
        files = tuple(
            self._file(base, path)
            for path in sorted(base.rglob("*"))
            if path.is_file() and not _is_marker(path.relative_to(base))
        )
        content = "".join(f"{file.path}\0{file.oid}\n" for file in files)
        return Commit(hashlib.sha1(content.encode()).hexdigest(), files)

    def _folders(self, repo: str) -> dict[str, str]:
        path = self._base(repo) / ".refs.json"
        return {"main": "."} | (dict(json.loads(path.read_text())) if path.exists() else {})

    def _file(self, base: Path, path: Path) -> HubFile:
        stat = path.stat()
        name = path.relative_to(base).as_posix()
        with self._lock:  # One thread hashes; the others find the answer.
            known = self._digests.get(str(path))
            if known is None or known[:2] != (stat.st_size, stat.st_mtime_ns):
                lfs = name.endswith(LFS_SUFFIXES) or stat.st_size >= LFS_FROM_BYTES
                known = (stat.st_size, stat.st_mtime_ns, *_digests(path, stat.st_size, lfs, _told(base, name)))
                self._digests[str(path)] = known
        return HubFile(name, path, stat.st_size, known[2], known[3])


def _plain(name: str) -> str:
    """A repository or token without what tells it from other names of the same."""
    return name.partition("__")[0]


def _is_marker(path: Path) -> bool:
    return path.parts[0] in {".refs.json", ".gated", ".private", ".branches", ".sha256.json"}


def _told(base: Path, name: str) -> str | None:
    path = base / ".sha256.json"
    return dict(json.loads(path.read_text())).get(name) if path.exists() else None


def _digests(path: Path, size: int, lfs: bool, told: str | None) -> tuple[str, str | None]:
    if not lfs:
        return _blob_id(path.read_bytes()), None
    sha256 = told
    if sha256 is None:
        with path.open("rb") as file:
            sha256 = hashlib.file_digest(file, "sha256").hexdigest()
    return _blob_id(_pointer(sha256, size)), sha256


def _blob_id(content: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


def _pointer(sha256: str, size: int) -> bytes:
    return f"version https://git-lfs.github.com/spec/v1\noid sha256:{sha256}\nsize {size}\n".encode()
