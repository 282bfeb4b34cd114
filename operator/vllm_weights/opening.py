"""From the name of a source to the client that speaks its protocol."""

from __future__ import annotations

import os
import ssl
from collections.abc import Mapping

from vllm_weights import proxies, tls
from vllm_weights.addresses import whole_address
from vllm_weights.grammar import Name
from vllm_weights.listing import Source
from vllm_weights.wire import CONNECT_SECONDS

MODELSCOPE_LIMITS = {
    "MODELSCOPE_API_CONNECT_TIMEOUT": str(round(CONNECT_SECONDS)),
    "MODELSCOPE_REPO_TREE_PAGE_MAX_ATTEMPTS": "1",  # It is tried again by who asks for it, who counts.
    "MODELSCOPE_API_MAX_RETRIES": "1",
    "MODELSCOPE_API_TIMEOUT": "15",
    "MODELSCOPE_LOG_LEVEL": "WARNING",
}
"""Its library reads them from the process's environment, once, when it is imported."""


def open_source(name: Name, environment: Mapping[str, str], *, stall_seconds: float, parallelism: int) -> Source:
    """The source, not yet asked anything; libraries of a store are imported only when it is one of theirs."""
    # One silent connection is given up at half the time, so that a new one can end the silence before it is a stall.
    silence = stall_seconds / 2
    tls.check_trusted(environment)
    if name.kind == "hf":
        # The library reads the variable when it is imported, and dies of one that is no address.
        proxies.check(whole_address("HF_ENDPOINT", environment.get("HF_ENDPOINT") or "https://huggingface.co"))
        from vllm_weights.huggingface import HuggingFace

        return HuggingFace(name.repo, environment, silence_seconds=silence, parallelism=parallelism)
    if name.kind == "modelscope":
        said = environment.get("MODELSCOPE_ENDPOINT") or "modelscope.cn"
        proxies.check(whole_address("MODELSCOPE_ENDPOINT", said if "://" in said else f"https://{said}"))
        _prepare_modelscope()
        from vllm_weights.modelscope import ModelScope

        return ModelScope(name.repo, environment, silence_seconds=silence, parallelism=parallelism)
    proxies.check(None)  # Its library speaks to every kind.
    _trim("AWS_", "GOOGLE_")
    from vllm_weights.buckets import Bucket

    return Bucket(name, environment, silence_seconds=silence)


def _trim(*prefixes: str) -> None:
    """Takes the line's end from what a Secret brought, as `echo KEY | base64` has it: obstore dies of one in a key."""
    for name, value in list(os.environ.items()):
        if name.startswith(prefixes) and value != value.strip():
            os.environ[name] = value.strip()


def _prepare_modelscope() -> None:
    os.environ.update(MODELSCOPE_LIMITS)
    # It brings certificates of its own; all other sources trust those of the image, or of SSL_CERT_FILE.
    trusted = ssl.get_default_verify_paths()
    if where := trusted.cafile or trusted.capath:
        os.environ.setdefault("REQUESTS_CA_BUNDLE", where)
