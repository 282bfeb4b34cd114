"""Whose look an event calls for: owners by ownerReference, and what looks have learned about shared and unowned objects."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from vllm_operator.cluster.kinds import EVERY_NODE, model_owners
from vllm_operator.plan.labels import MODEL_LABEL
from vllm_operator.plan.names import short_name
from vllm_operator.queue import Key

JOB_NAME = "batch.kubernetes.io/job-name"
Followed = frozenset[tuple[str, str]]  # (kind, name)


class Interests:
    """Who follows what. A hint only: every decision rests on a live read."""

    def __init__(self) -> None:
        self._followers: dict[tuple[str, str, str], set[Key]] = {}  # namespace, kind, name
        self._followed: dict[Key, Followed] = {}
        self._labelled: dict[tuple[str, str], Key] = {}  # namespace, the value of the model label

    def learn(self, key: Key, followed: Followed) -> None:
        """The model follows these objects of its namespace, and no others any more."""
        before = self._followed.get(key, frozenset())
        self._unfollow(key, before - followed)
        for kind, name in followed - before:
            self._followers.setdefault((key.namespace, kind, name), set()).add(key)
        self._followed[key] = followed
        self._labelled[key.namespace, short_name(key.name)] = key

    def forget(self, key: Key) -> None:
        """The model is gone."""
        self._unfollow(key, self._followed.pop(key, frozenset()))
        self._labelled.pop((key.namespace, short_name(key.name)), None)

    def _unfollow(self, key: Key, followed: Followed) -> None:
        for kind, name in followed:
            followers = self._followers.get((key.namespace, kind, name), set())
            followers.discard(key)
            if not followers:
                self._followers.pop((key.namespace, kind, name), None)

    def of_nodes(self) -> frozenset[Key]:
        """The models whose weights are on the nodes' own disks."""
        return frozenset(key for key, followed in self._followed.items() if EVERY_NODE in followed)

    def keys_of(self, body: Mapping[str, Any]) -> frozenset[Key]:
        """The models that an event about this object concerns."""
        return frozenset(self._keys_of(body))

    def _keys_of(self, body: Mapping[str, Any]) -> Iterator[Key]:
        metadata = body.get("metadata") or {}
        namespace, labels = str(metadata.get("namespace")), metadata.get("labels") or {}
        for owner in model_owners(body):
            yield Key(namespace, str(owner["name"]))
        for kind, name in _names(body, metadata, labels):
            yield from self._followers.get((namespace, kind, name), ())
        if MODEL_LABEL in labels:
            value = str(labels[MODEL_LABEL])
            yield self._labelled.get((namespace, value), Key(namespace, value))


def _names(
    body: Mapping[str, Any], metadata: Mapping[str, Any], labels: Mapping[str, str]
) -> Iterable[tuple[str, str]]:
    """The object itself, and the Job that it is a pod of."""
    yield str(body.get("kind")), str(metadata.get("name"))
    if JOB_NAME in labels:
        yield "Job", labels[JOB_NAME]
