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

from vllm_weights import wire
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
BAD_CREDENTIALS = re.compile(
    r"InvalidAccessKeyId|SignatureDoesNotMatch|ExpiredToken|InvalidToken|TokenRefreshRequired|invalid_grant"
)
NO_CREDENTIALS = re.compile(r"InstanceCredential|TokenRequest|OpenCredentials|DecodeCredentials|CredentialProvider")
"""obstore's words where nothing in its chain of credentials answers."""
NOT_OF_RIGHTS = {
    "RequestTimeTooSkewed": "Have the clock of the node set right, where it differs from the store's: the keys are not at fault.",
    "AllAccessDisabled": "The store has shut this bucket: ask its owner, or name another.",
    "AccountProblem": "The store has shut the account of these keys: ask its owner, or use keys of another.",
    "InvalidObjectState": "The object lies in an archive (Glacier): have it restored first.",
}
"""S3's codes of a 403 that no policy and no other key cures, and what does."""
NOT_TRUSTED = re.compile(r"InvalidCertificate\(\s*(\w+)")
_PAGE = re.compile(r"(?i)<!doctype html|<html\b")
_CODE = re.compile(r"<Code>([^<]{1,80})</Code>")
_MESSAGE = re.compile(r"<Message>([^<]{1,400})(?:</Message>|$)|\"message\": ?\"((?:[^\"\\]|\\.){1,400})\"")
_DETAILS = re.compile(r"<Details>([^<]{1,300})")
_ELSEWHERE = re.compile(r"incorrectly configured region|PermanentRedirect|AuthorizationHeaderMalformed")
ADDRESS = re.compile(r"https?://[^\s/]+(/\S*)?")
STATUS = re.compile(r"status(?: code)?: (\d{3})")


class Bucket:
    """A folder of a bucket that holds one model; a Source."""

    def __init__(self, name: Name, environment: Mapping[str, str], *, silence_seconds: float) -> None:
        self.where = f"{name.kind}://{name.bucket}" + (f"/{name.prefix}" if name.prefix else "")
        self.kind = name.kind
        endpoint = _endpoint(name, environment)
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
        if not files:
            raise WeightsError(
                Reason.REPO_NOT_FOUND,
                f"{self.where} holds no objects.",
                "Check bucket and prefix: the prefix is the folder with config.json in it.",
            )
        text = "".join(f"{file.path}\0{file.size}\0{file.version}\n" for file in files)
        return Listing(hashlib.sha256(text.encode()).hexdigest()[:40], _without_folders(files))

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
            raise self._absent(file, str(error)) from error
        except (exceptions.BaseError, OSError, ValueError) as error:
            raise self._failure(error) from error
        except BaseException as error:
            if type(error).__name__ != "PanicException":  # Of obstore's runtime, no Exception and exported by nobody.
                raise
            raise _cannot_be_asked(self.where, str(error)) from error

    def _absent(self, file: RemoteFile | None, said: str) -> WeightsError:
        if _PAGE.search(said):
            return _no_store(self.where, _words(said))
        if file is not None:
            return WeightsError(
                Reason.WEIGHTS_MISSING, f"{self.where} has no {file.path} any more.", "Inspect the model again."
            )
        return WeightsError(Reason.REPO_NOT_FOUND, f"{self.where} does not exist.", "Check the name of the bucket.")

    def _failure(self, error: Exception) -> WeightsError:
        said = str(error)
        short = _words(said)
        found = STATUS.search(said)
        status = int(found[1]) if found else 0
        if "Config error" in said:
            return _cannot_be_asked(self.where, short)
        if BAD_CREDENTIALS.search(said) or status == 401 or isinstance(error, exceptions.UnauthenticatedError):
            return _bad_credentials(self.where, f"does not accept the credentials: {short}")
        if status == 404 or _PAGE.search(said):
            return self._absent(None, said)
        if status == 403 or isinstance(error, exceptions.PermissionDeniedError):
            return self._forbidden(said, short)
        if status == 429 or "SlowDown" in said:
            remedy = "Wait, or lower the parallelism."
            return WeightsError(Reason.HUB_RATE_LIMITED, f"{self.where} limits the rate of requests.", remedy)
        if status == 0 and NO_CREDENTIALS.search(said):
            return _bad_credentials(self.where, f"needs credentials, and they are missing or cannot be read: {short}")
        if found := NOT_TRUSTED.search(said):
            return wire.not_trusted(self.where, found[1])
        return self._unreachable(status, short)

    def _forbidden(self, said: str, short: str) -> WeightsError:
        """A 403 is not always about rights: the store's own code tells."""
        for words, remedy in NOT_OF_RIGHTS.items():
            if words in said:
                return WeightsError(Reason.HUB_REFUSED, f"{self.where} refuses every request: {short}", remedy)
        return WeightsError(
            Reason.INVALID_TOKEN,
            f"{self.where} may not be read with these credentials: {short}",
            "Grant reading and listing of the prefix (s3:GetObject and s3:ListBucket; storage.objects.get and .list), "
            "where the store's words name nothing else; without keys (AWS_SKIP_SIGNATURE, GOOGLE_SKIP_SIGNATURE) only what is public is given.",
        )

    def _unreachable(self, status: int, short: str) -> WeightsError:
        if (300 <= status < 500 and status != 408) or _ELSEWHERE.search(short):
            remedy = (
                "Check the endpoint and the region (AWS_REGION must be the bucket's own), and what the store's words name."
                if self.kind == "s3"
                else "Correct what the store's words name; else check the endpoint (GOOGLE_BASE_URL)."
            )
            answered = f"answered HTTP {status}" if status else "does not answer here"
            return WeightsError(Reason.HUB_REFUSED, f"{self.where} {answered}: {short}", remedy)
        return WeightsError(
            Reason.HUB_UNREACHABLE,
            f"{self.where} cannot be reached or breaks off: {short}",
            "Check the endpoint (AWS_ENDPOINT_URL, GOOGLE_BASE_URL), and that the namespace may reach it.",
        )


def _words(said: str) -> str:
    """The store's own code and sentence where it gives them, else the library's words, shortened."""
    code, message = _CODE.search(said), _MESSAGE.search(said)
    if code or message:
        told = [(found[1] or found[2]).strip() for found in (code, message, _DETAILS.search(said)) if found]
        return ": ".join(told)[:600]
    return " ".join(said.partition("Debug source")[0].split())[:300]


def _no_store(where: str, words: str) -> WeightsError:
    return WeightsError(
        Reason.HUB_REFUSED,
        f"What answers for {where} is no object storage: {words}",
        "Check the endpoint (AWS_ENDPOINT_URL, GOOGLE_BASE_URL), and whether a proxy or a filter answers in its place.",
    )


def _bad_credentials(where: str, how: str) -> WeightsError:
    return WeightsError(
        Reason.INVALID_TOKEN,
        f"{where} {how}",
        "Put valid keys into the secret, correct the identity of the service account, or for a public bucket set "
        "AWS_SKIP_SIGNATURE or GOOGLE_SKIP_SIGNATURE to true.",
    )


def _cannot_be_asked(where: str, why: str) -> WeightsError:
    return WeightsError(
        Reason.INVALID_ARGUMENT,
        f"{where} cannot be asked with the addresses and keys that are given: {why.rstrip('.')}.",
        "Correct the Secret's keys (AWS_…, GOOGLE_…), and the platform's addresses.",
    )


def _endpoint(name: Name, environment: Mapping[str, str]) -> str:
    """The store's own address, empty where none is given. Raises InvalidArgument for what is none."""
    keys = ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "AWS_ENDPOINT") if name.kind == "s3" else ("GOOGLE_BASE_URL",)
    key, endpoint = next(((key, environment[key].strip()) for key in keys if environment.get(key)), ("", ""))
    if endpoint and not ADDRESS.fullmatch(endpoint):
        raise _cannot_be_asked(f"{name.kind}://{name.bucket}", f"{key} is no address such as https://store.example.com")
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
