"""S3 and Google Cloud Storage, by obstore: its own credential chains, signatures and endpoints, all from the environment.

AWS_ACCESS_KEY_ID …, AWS_WEB_IDENTITY_TOKEN_FILE, AWS_ENDPOINT_URL, AWS_REGION, AWS_SKIP_SIGNATURE;
GOOGLE_APPLICATION_CREDENTIALS, GOOGLE_BASE_URL, GOOGLE_SKIP_SIGNATURE, or the node's workload identity.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import timedelta
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any

import httpx2
import obstore
from obstore import exceptions
from obstore.store import GCSStore, S3Store

from vllm_weights import refusals, wire
from vllm_weights.failure import Reason, WeightsError
from vllm_weights.grammar import Name
from vllm_weights.listing import Digest, DigestKind, Listing, RemoteFile

if TYPE_CHECKING:
    from obstore import GetOptions, ObjectMeta
    from obstore.store import ClientConfig, RetryConfig

PIECE_BYTES = 256 * 1024
"""Less than what a slow line brings within the stall time, since obstore hands on no less."""
LONGEST_TRANSFER = timedelta(days=2)
"""Of one request; silence is what ends it. obstore's default of 30 s would cut large ranges on slow lines."""
MD5 = re.compile(r"[0-9a-f]{32}")
PLAIN_MD5_ENCRYPTIONS = ("", "AES256")
"""Server-side encryptions under which S3's ETag still is the MD5 of the content."""
KEY = re.compile(r"(?!(['\"]).*\1$)[ -~]*")
"""Printable ASCII in one line, and not between quotes. Stores choose their own alphabets."""
REGION = re.compile(r"[a-z0-9-]{2,40}")
ADDRESS = re.compile(r"https?://[^\s/]+(/\S*)?")


class Bucket:
    """A folder of a bucket that holds one model; a Source."""

    def __init__(self, name: Name, environment: Mapping[str, str], *, silence_seconds: float) -> None:
        self.where = f"{name.kind}://{name.bucket}" + (f"/{name.prefix}" if name.prefix else "")
        self.kind = name.kind
        endpoint = _endpoint(name, environment)
        _check_keys(name, environment)
        options: ClientConfig = {
            "connect_timeout": timedelta(seconds=min(wire.CONNECT_SECONDS, silence_seconds)),
            "read_timeout": timedelta(seconds=silence_seconds),
            "timeout": LONGEST_TRANSFER,
            "allow_http": endpoint.startswith("http://"),
        }
        once: RetryConfig = {"max_retries": 0, "retry_timeout": timedelta(seconds=silence_seconds)}
        store: type[S3Store | GCSStore] = S3Store if name.kind == "s3" else GCSStore
        with self._errors_named():
            self._store = store(name.bucket, prefix=name.prefix or None, client_options=options, retry_config=once)

    def listing(self, revision: str | None) -> Listing:
        """Every object under the prefix; the commit is a hash over names, sizes and ETags (a bucket has no revisions)."""
        with self._errors_named():
            found = [_file(meta) for page in obstore.list(self._store, chunk_size=1000) for meta in page]
        files = tuple(sorted((file for file in found if file.path), key=lambda file: file.path))
        if not files and self._gives_what_it_does_not_list():
            raise refusals.no_store(self.where, "it lists nothing, and gives config.json all the same.")
        if not files:
            raise WeightsError(
                Reason.REPO_NOT_FOUND,
                f"{self.where} holds no objects.",
                "Check bucket and prefix: the prefix is the folder with config.json in it.",
            )
        text = "".join(f"{file.path}\0{file.size}\0{file.version}\n" for file in files)
        return Listing(hashlib.sha256(text.encode()).hexdigest()[:40], _without_folders(files))

    def _gives_what_it_does_not_list(self) -> bool:
        """A filter's page, well-formed, reads as a listing of nothing; it is also what comes for an object."""
        try:
            obstore.head(self._store, "config.json")
        except FileNotFoundError:  # what a store says, having listed nothing
            return False
        except (exceptions.BaseError, OSError) as error:
            return "Header" in str(error) and not refusals.STATUS.search(
                str(error)
            )  # an object without a store's headers
        return True

    @contextmanager
    def stream(self, commit: str, file: RemoteFile, start: int, end: int) -> Iterator[Iterator[bytes | memoryview]]:
        options: GetOptions = {"range": (start, end)}
        if file.version:
            options["if_match"] = file.version
        with self._errors_named(file):
            yield self._pieces(obstore.get(self._store, file.path, options=options))

    def checksum_is_none(self, file: RemoteFile) -> bool:
        """Whether S3 says that an object is encrypted such that its ETag is not the MD5 it looks like."""
        try:
            url = obstore.sign(self._store, "HEAD", file.path, timedelta(minutes=5))
            answer = httpx2.head(url, timeout=10)
        except (exceptions.BaseError, httpx2.HTTPError):
            return False
        header = "x-amz-server-side-encryption"
        plain = answer.headers.get(header, "") in PLAIN_MD5_ENCRYPTIONS
        return answer.status_code == 200 and not (plain and f"{header}-customer-algorithm" not in answer.headers)

    def close(self) -> None:
        """obstore ends its connections by itself."""

    @staticmethod
    def _pieces(result: obstore.GetResult) -> Iterator[bytes | memoryview]:
        for piece in result.stream(min_chunk_size=PIECE_BYTES):
            yield memoryview(piece)

    @contextmanager
    def _errors_named(self, file: RemoteFile | None = None) -> Iterator[None]:
        try:
            yield
        except exceptions.PreconditionError as error:
            assert file is not None
            raise wire.source_changed(file, "the object was replaced") from error
        except (FileNotFoundError, exceptions.NotFoundError) as error:
            raise refusals.absent(self.where, str(error), file.path if file else "") from error
        except (exceptions.BaseError, OSError, ValueError) as error:
            raise self._refusal(error) from error
        except BaseException as error:
            if type(error).__name__ != "PanicException":  # Of obstore's runtime, no Exception and exported by nobody.
                raise
            raise refusals.cannot_be_asked(self.where, str(error)) from error

    def _refusal(self, error: Exception) -> WeightsError:
        meant = refusals.failure(error, self.where, self.kind)
        if meant.reason is Reason.INVALID_TOKEN and refusals.STATUS.search(str(error)):
            return self._elsewhere() or meant
        return (self._elsewhere() or meant) if refusals.ELSEWHERE.search(str(error)) else meant

    def _elsewhere(self) -> WeightsError | None:
        """Where the bucket is, if not here: the library follows redirects, tells nothing of them, and no signature goes along."""
        try:
            url = obstore.sign(self._store, "GET", "config.json", timedelta(minutes=5))
            answer = httpx2.get(url, timeout=10, follow_redirects=False, headers={"Range": "bytes=0-0"})
            to = answer.next_request.url if answer.next_request else None
        except (exceptions.BaseError, httpx2.HTTPError, httpx2.InvalidURL, OSError, ValueError):
            return None
        if to is not None and (to.scheme, to.netloc) != (answer.url.scheme, answer.url.netloc):
            whereto = str(to.copy_with(path="/", query=None))
            return refusals.redirected(self.where, whereto, to_tls=to.scheme != answer.url.scheme)
        region = answer.headers.get("x-amz-bucket-region", "")
        if answer.status_code in (301, 307, 400) and REGION.fullmatch(region):
            return refusals.in_another_region(self.where, region)
        return None


def _check_keys(name: Name, environment: Mapping[str, str]) -> None:
    """Raises InvalidToken for a part of a key, which the library would leave out, and look elsewhere."""
    if name.kind != "s3" or environment.get("AWS_SKIP_SIGNATURE", "").lower() in ("true", "1"):
        return
    for key in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"):
        if not KEY.fullmatch(environment.get(key, "").strip()):
            raise WeightsError(
                Reason.INVALID_TOKEN,
                f"{key} for {name.kind}://{name.bucket} is no key: it stands between quotes, has several lines, or letters that are not ASCII.",
                "Put the key alone into the Secret that credentialsSecretRef names.",
            )
    id_, secret = environment.get("AWS_ACCESS_KEY_ID", ""), environment.get("AWS_SECRET_ACCESS_KEY", "")
    missing = "AWS_SECRET_ACCESS_KEY" if id_ and not secret else "AWS_ACCESS_KEY_ID" if secret and not id_ else ""
    if id_.startswith("ASIA") and not (environment.get("AWS_SESSION_TOKEN") or environment.get("AWS_TOKEN")):
        missing = "AWS_SESSION_TOKEN, which a temporary key (ASIA…) has"
    if missing:
        raise WeightsError(
            Reason.INVALID_TOKEN,
            f"The keys for {name.kind}://{name.bucket} lack {missing}.",
            "Put it into the Secret that credentialsSecretRef names, under this name.",
        )


def _endpoint(name: Name, environment: Mapping[str, str]) -> str:
    """The store's own address, empty where none is given. Raises InvalidArgument for what is none."""
    keys = ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "AWS_ENDPOINT") if name.kind == "s3" else ("GOOGLE_BASE_URL",)
    key, endpoint = next(((key, environment[key].strip()) for key in keys if environment.get(key)), ("", ""))
    if endpoint and not ADDRESS.fullmatch(endpoint):
        raise refusals.cannot_be_asked(
            f"{name.kind}://{name.bucket}", f"{key} is no address such as https://store.example.com"
        )
    return endpoint


def _without_folders(files: tuple[RemoteFile, ...]) -> tuple[RemoteFile, ...]:
    """Consoles make a folder as an empty object whose key ends in a slash; obstore shows it without the slash."""
    folders = {str(folder) for file in files for folder in PurePosixPath(file.path).parents}
    return tuple(file for file in files if file.size or file.path not in folders)


def _file(meta: ObjectMeta | Mapping[str, Any]) -> RemoteFile:
    tag = str(meta["e_tag"] or "")
    plain = tag.strip('"')
    digest = Digest(DigestKind.MD5, plain) if MD5.fullmatch(plain) else Digest(DigestKind.NONE)
    return RemoteFile(str(meta["path"]), int(meta["size"]), digest, version=tag)
