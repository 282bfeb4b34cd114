"""How an object store is asked, and what of that may be why it refuses: looked at before keys and rights are blamed."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import urlsplit

from vllm_weights.failure import WeightsError
from vllm_weights.grammar import Name
from vllm_weights.keys import YES

_IDENTITIES = (
    "AWS_ACCESS_KEY_ID",
    "AWS_WEB_IDENTITY_TOKEN_FILE",
    "AWS_CONTAINER_CREDENTIALS_FULL_URI",
    "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
    "AWS_SKIP_SIGNATURE",
)
_R2 = re.compile(r"[0-9a-z]{1,64}\.r2\.cloudflarestorage\.com")
_CHINA = re.compile(r"\bs3\.(cn-[a-z]+-\d)\.amazonaws\.com(?!\.)")
_UNLIKE_IN_ADDRESSES = re.compile(r"[^\w./~-]")


@dataclass(frozen=True, slots=True)
class Asking:
    """A store's address (`endpoint`, "" for the cloud's own), its style, and `lender`, the host that lends roles ("": none does)."""

    kind: str
    bucket: str
    endpoint: str = ""
    lender: str = ""
    by_host: bool = False
    has_identity: bool = True
    """Whether keys, or a role of the pod's own, are given: else a node's role is what is shown."""

    @classmethod
    def of(cls, name: Name, endpoint: str, environment: Mapping[str, str]) -> Asking:
        by_host = environment.get("AWS_VIRTUAL_HOSTED_STYLE_REQUEST", "").strip().lower() in YES
        is_s3, lender = name.kind == "s3", _lender(environment)
        has_identity = not is_s3 or any(environment.get(key) for key in _IDENTITIES)
        return cls(name.kind, name.bucket, endpoint, lender, is_s3 and by_host, has_identity)

    def looked_at_first(
        self, meant: WeightsError, said: str, path: str = "", *, listed: bool = False, is_empty: bool = False
    ) -> WeightsError:
        """A refusal, its remedy preceded by what of the way of asking may be at fault; as it is where nothing may.

        `path`: of an object; `listed`: its list came with the same keys; `is_empty`: it came, with nothing in it.
        """
        first = self._of_the_address(said)
        if not first and not meant.retry:
            first = (self._no_bucket if not path else "") or self._before_keys(said, path, listed=listed)
        if is_empty and self.by_host and not first:
            first = (
                "Where the store does not take buckets out of its host's name (MinIO without MINIO_DOMAIN), take the bucket out of AWS_ENDPOINT_URL, and "
                "AWS_VIRTUAL_HOSTED_STYLE_REQUEST out of the Secret."
            )
        if first:
            meant.remedy = f"{first} Else: {meant.remedy}"
        return meant

    @property
    def _no_bucket(self) -> str:
        """What to do where the bucket stands neither in the host nor in the path of what is asked; "" where it does."""
        host = urlsplit(self.endpoint).hostname or ""
        if not (self.by_host and host) or self.bucket.lower() in host:
            return ""
        return (
            f"AWS_VIRTUAL_HOSTED_STYLE_REQUEST is true, and the host of AWS_ENDPOINT_URL ({host}) does not begin with the bucket: take the switch "
            "out, or put the bucket before the host."
        )

    def _of_the_address(self, said: str) -> str:
        host = urlsplit(self.endpoint).hostname or ""
        if "dns error" in said and (found := _CHINA.search(self.endpoint or said)):
            return (
                f"Amazon's domain in China is another: have AWS_ENDPOINT_URL be https://s3.{found[1]}.amazonaws.com.cn."
            )
        if host.startswith("vpce-") and "NotValidForName" in said:
            return f"An interface endpoint is asked with a word before its name: have AWS_ENDPOINT_URL be https://bucket.{host}."
        if not self.by_host and self.kind == "s3" and host.startswith(f"{self.bucket.lower()}."):
            return (
                f"The host of AWS_ENDPOINT_URL ({host}) begins with the bucket, which then stands in the path once more: leave it out of AWS_ENDPOINT_URL, "
                "or set AWS_VIRTUAL_HOSTED_STYLE_REQUEST to true."
            )
        if _R2.fullmatch(host) and "AccessDenied" in said:
            return (
                "Where the bucket has a jurisdiction (EU, FedRAMP), it is asked at that one's endpoint: have AWS_ENDPOINT_URL be "
                f"https://{host.replace('.r2.', '.eu.r2.')} or the like."
            )
        if host.endswith(".amazonaws.com") and self.endpoint.startswith("http://") and "explicit deny" in said:
            return "AWS_ENDPOINT_URL begins with http://, and many buckets deny all that is not encrypted: have it begin with https://."
        return ""

    def _before_keys(self, said: str, path: str, *, listed: bool) -> str:
        if not self.has_identity and ("AccessDenied" in said or "InvalidAccessKeyId" in said):
            return (
                "Neither keys nor a role of the pod's own were given, so those of the node were shown: name a Secret in credentialsSecretRef, or give "
                "the service account a role."
            )
        if "SignatureDoesNotMatch" in said:
            return self._signed(path, listed=listed)
        if "InvalidAccessKeyId" not in said or self.kind != "s3":
            return ""
        if not self.endpoint:
            return (
                "Amazon S3 was asked, since no AWS_ENDPOINT_URL is given: where the keys are of another store, name it (in the Secret, or "
                "sources.s3.endpoint of the platform's settings)."
            )
        return (
            "See that these keys are of the store that was asked (AWS_ENDPOINT_URL in the Secret, else sources.s3.endpoint of the platform's settings): "
            "one of another store, region or account is not known there."
        )

    def _signed(self, path: str, *, listed: bool) -> str:
        if path and listed:
            found = _UNLIKE_IN_ADDRESSES.search(path)
            odd = f" ({found[0]!r} in a name)" if found else ""
            return (
                f"The list came with these keys, so they are right: what stands before the store changes the path that is signed{odd}. Ask the store "
                "itself, have that mended, or give the objects plain names."
            )
        inside = urlsplit(self.endpoint).path.strip("/")
        if inside:
            return f"AWS_ENDPOINT_URL has a path (/{inside}), which is signed, too: where what answers takes it away, give the store a host of its own."
        return ""


def _lender(environment: Mapping[str, str]) -> str:
    """The host that lends the role of a service account (AWS), as the library makes it; empty without such a role."""
    if not environment.get("AWS_WEB_IDENTITY_TOKEN_FILE"):
        return ""
    own = environment.get("AWS_ENDPOINT_URL_STS", "")
    region = environment.get("AWS_REGION") or environment.get("AWS_DEFAULT_REGION") or "us-east-1"
    return urlsplit(own).hostname or "" if own else f"sts.{region}.amazonaws.com"
