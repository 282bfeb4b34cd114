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

from vllm_weights import limits, refusals, wire
from vllm_weights.asking import Asking
from vllm_weights.checksum import is_of
from vllm_weights.failure import Reason, WeightsError
from vllm_weights.grammar import Name
from vllm_weights.keys import check_keys
from vllm_weights.listing import Digest, DigestKind, Listing, RemoteFile
from vllm_weights.store_words import STATUS

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
ENDPOINT = re.compile(r"<Endpoint>([\w.:-]{3,200})</Endpoint>")
REGION = re.compile(r"[a-z0-9-]{2,40}")
CDN = ("x-amz-cf-id", "x-amz-cf-pop")
"""What CloudFront adds to each answer."""
ADDRESS = re.compile(r"https?://[^\s/]+(/\S*)?")


SMALL_BYTES = 256 * 1024
MOST_LOOKED_AT = 3
FIRST_DOUBT = 100
"""Names, from which on a list is asked for its rest: no store has smaller pages."""


class Bucket:
    """A folder of a bucket that holds one model; a Source."""

    wrong_bytes = "The object is damaged in the bucket, or a cache on the way serves wrong bytes: upload it again, or clear that cache."

    def __init__(self, name: Name, environment: Mapping[str, str], *, silence_seconds: float) -> None:
        self.where = f"{name.kind}://{name.bucket}" + (f"/{name.prefix}" if name.prefix else "")
        endpoint = _endpoint(name, environment)
        self._asking = Asking.of(name, endpoint, environment)
        self._listed = False
        self._if_match_counts = True
        check_keys(name, environment)
        options: ClientConfig = {
            "connect_timeout": timedelta(seconds=min(wire.CONNECT_SECONDS, silence_seconds)),
            "read_timeout": timedelta(seconds=silence_seconds),
            "timeout": LONGEST_TRANSFER,
            "allow_http": endpoint.startswith("http://"),
        }
        self._small: list[RemoteFile] = []
        once: RetryConfig = {"max_retries": 0, "retry_timeout": timedelta(seconds=silence_seconds)}
        store: type[S3Store | GCSStore] = S3Store if name.kind == "s3" else GCSStore
        with self._errors_named():
            self._store = store(name.bucket, prefix=name.prefix or None, client_options=options, retry_config=once)

    def listing(self, revision: str | None) -> Listing:
        """Every object under the prefix; the commit is a hash over names, sizes and ETags (a bucket has no revisions)."""
        with self._errors_named():
            found = self._all_names()
        self._listed = bool(found)
        files = tuple(sorted((file for file in found.values() if file.path), key=lambda file: file.path))
        self._small = sorted((file for file in files if 0 < file.size <= SMALL_BYTES), key=lambda file: file.size)
        if not files and self._gives_what_it_does_not_list():
            raise refusals.no_store(self.where, "it lists nothing, and gives config.json all the same.")
        if not files:
            remedy = "Check bucket and prefix: the prefix is the folder with config.json in it."
            meant = WeightsError(Reason.REPO_NOT_FOUND, f"{self.where} holds no objects.", remedy)
            raise self._asking.looked_at_first(meant, "", is_empty=True)
        text = "".join(f"{file.path}\0{file.size}\0{file.version}\n" for file in files)
        return Listing(hashlib.sha256(text.encode()).hexdigest()[:40], _without_folders(files))

    def _all_names(self) -> dict[str, RemoteFile]:
        """Raises HubRefused for a store that tells one page again and again, or only its first."""
        found: dict[str, RemoteFile] = {}
        for page in obstore.list(self._store, chunk_size=1000):
            for file in map(_file, page):
                if file.path in found:
                    raise refusals.no_listing(self.where, f"it lists {file.path} twice, as one page again and again")
                found[file.path] = file
        if len(found) >= FIRST_DOUBT:
            after = max(found, key=str.encode)
            rest = [str(meta["path"]) for page in obstore.list(self._store, offset=after) for meta in page]
            if any(path not in found for path in rest) or (rest and len(found) % 1000 == 0):
                raise refusals.no_listing(self.where, f"it ends its list after {len(found)} names, and there are more")
        return found

    def _gives_what_it_does_not_list(self) -> bool:
        """A filter's page, well-formed, reads as a listing of nothing; it is also what comes for an object."""
        try:
            obstore.head(self._store, "config.json")
        except FileNotFoundError:  # what a store says, having listed nothing
            return False
        except (exceptions.BaseError, OSError) as error:
            return "Header" in str(error) and not STATUS.search(str(error))  # an object without a store's headers
        return True

    @contextmanager
    def stream(self, commit: str, file: RemoteFile, start: int, end: int) -> Iterator[Iterator[bytes | memoryview]]:
        with self._errors_named(file):
            result = self._got(file, {"range": (start, end)})
            if (size := int(result.meta["size"])) != file.size:  # There are stores whose ETag says nothing.
                raise wire.source_changed(file, f"it is {size} bytes long, not {file.size}")
            yield self._pieces(result)

    def _got(self, file: RemoteFile, options: GetOptions) -> obstore.GetResult:
        """Asked with If-Match, and without where a store refuses it for an object that is as it was (SeaweedFS 3.97)."""
        if file.version and self._if_match_counts:
            try:
                return obstore.get(self._store, file.path, options={**options, "if_match": file.version})
            except exceptions.PreconditionError:
                if not self._is_as_listed(file):
                    raise
                self._if_match_counts = False
        return obstore.get(self._store, file.path, options=options)

    def _is_as_listed(self, file: RemoteFile) -> bool:
        pages = obstore.list(self._store, prefix=file.path)
        now = (_file(meta) for page in pages for meta in page)
        return any((other.path, other.version) == (file.path, file.version) for other in now)

    def checksum_is_none(self, file: RemoteFile) -> bool:
        """Whether an ETag is not the MD5 it looks like: of an encrypted object, or of a store that has another meaning for it."""
        return self._is_encrypted(file) or self._etags_are_no_checksums(file)

    def _etags_are_no_checksums(self, file: RemoteFile) -> bool:
        """True where other small objects differ from theirs, too: a damaged object is one among many that are right."""
        others = [other for other in self._small if other.path != file.path and other.digest.kind is DigestKind.MD5]
        try:
            contents = [bytes(obstore.get(self._store, other.path).bytes()) for other in others[:MOST_LOOKED_AT]]
        except (exceptions.BaseError, OSError):
            return False
        return len(contents) > 1 and not any(map(is_of, contents, (other.digest for other in others)))

    def _is_encrypted(self, file: RemoteFile) -> bool:
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
            raise refusals.absent(self.where, str(error), self._asking, file.path if file else "") from error
        except (exceptions.BaseError, OSError, ValueError) as error:
            raise self._refusal(error, file) from error
        except BaseException as error:
            if not _is_panic(error):
                raise
            raise limits.of_threads(error) or refusals.cannot_be_asked(self.where, str(error)) from error

    def _refusal(self, error: Exception, file: RemoteFile | None) -> WeightsError:
        meant = refusals.failure(error, self.where, self._asking, file.path if file else "", listed=self._listed)
        is_refused = meant.reason is Reason.INVALID_TOKEN and STATUS.search(str(error))
        return (self._elsewhere() or meant) if is_refused or refusals.ELSEWHERE.search(str(error)) else meant

    def _elsewhere(self) -> WeightsError | None:
        """Where the bucket is, if not here: the library follows redirects, tells nothing of them, and no signature goes along."""
        try:
            url = obstore.sign(self._store, "GET", "config.json", timedelta(minutes=5))
            answer = httpx2.get(url, timeout=10, follow_redirects=False, headers={"Range": "bytes=0-0"})
            to = answer.next_request.url if answer.next_request else None
        except (exceptions.BaseError, httpx2.HTTPError, httpx2.InvalidURL, OSError, ValueError):
            return None
        except BaseException as error:
            if _is_panic(error):
                return None
            raise
        if to is not None and (to.scheme, to.netloc) != (answer.url.scheme, answer.url.netloc):
            whereto = str(to.copy_with(path="/", query=None))
            return refusals.redirected(
                self.where, whereto, to_tls=to.host == answer.url.host and to.scheme != answer.url.scheme
            )
        if answer.status_code == 403 and any(name in answer.headers for name in CDN):
            return refusals.behind_a_cdn(self.where, answer.text)
        region = answer.headers.get("x-amz-bucket-region", "")
        if answer.status_code in (301, 307, 400) and REGION.fullmatch(region):
            return refusals.in_another_region(self.where, region, self._asking)
        host = ENDPOINT.search(answer.text) if answer.status_code == 301 else None
        return refusals.redirected(self.where, host[1], to_tls=False) if host else None


def _endpoint(name: Name, environment: Mapping[str, str]) -> str:
    """The store's own address, empty where none is given. Raises InvalidArgument for what is none."""
    keys = ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "AWS_ENDPOINT") if name.kind == "s3" else ("GOOGLE_BASE_URL",)
    key, endpoint = next(((key, environment[key].strip()) for key in keys if environment.get(key)), ("", ""))
    if ".blob.core.windows.net" in endpoint or ".dfs.core.windows.net" in endpoint:
        raise WeightsError(
            Reason.INVALID_ARGUMENT,
            f"{key} names Azure's Blob Storage, which does not speak S3.",
            "Mount it as a volume (pvc://), or have the model in a store that speaks S3.",
        )
    if endpoint and not ADDRESS.fullmatch(endpoint):
        raise refusals.cannot_be_asked(
            f"{name.kind}://{name.bucket}", f"{key} is no address such as https://store.example.com"
        )
    return endpoint


def _is_panic(error: BaseException) -> bool:
    """Of obstore's runtime: no Exception, and exported by nobody."""
    return type(error).__name__ == "PanicException"


def _without_folders(files: tuple[RemoteFile, ...]) -> tuple[RemoteFile, ...]:
    """Consoles make a folder as an empty object whose key ends in a slash; obstore shows it without the slash."""
    folders = {str(folder) for file in files for folder in PurePosixPath(file.path).parents}
    return tuple(file for file in files if file.size or file.path not in folders)


def _file(meta: ObjectMeta | Mapping[str, Any]) -> RemoteFile:
    tag = str(meta["e_tag"] or "")
    plain = tag.strip('"')
    digest = Digest(DigestKind.MD5, plain) if MD5.fullmatch(plain) else Digest(DigestKind.NONE)
    return RemoteFile(str(meta["path"]), int(meta["size"]), digest, version=tag)
