"""The one way to the API server: `Cluster` reads, `Writer` writes for one model and refuses everything else."""

from vllm_operator.cluster.connection import Connection, Request
from vllm_operator.cluster.errors import ApiError, Busy, Conflict, Forbidden, Gone, OutOfBounds, Refused
from vllm_operator.cluster.platform import PlatformWriter
from vllm_operator.cluster.reader import Cluster, ProxyAnswer, ProxyCall
from vllm_operator.cluster.writer import FIELD_MANAGER, Owner, Writer

__all__ = [
    "FIELD_MANAGER",
    "ApiError",
    "Busy",
    "Cluster",
    "Conflict",
    "Connection",
    "Forbidden",
    "Gone",
    "OutOfBounds",
    "Owner",
    "PlatformWriter",
    "ProxyAnswer",
    "ProxyCall",
    "Refused",
    "Request",
    "Writer",
]
