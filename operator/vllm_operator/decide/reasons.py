"""The reasons of conditions and Events that are no failures. Failures have theirs in `diagnose`, refusals in `plan`.

A promise, as those are: a name may be added, never renamed. docs/conditions.md lists all of them; a test compares.
"""

from __future__ import annotations

from enum import StrEnum


class StateReason(StrEnum):
    """What a model is at, or waits for."""

    PENDING = "Pending"
    SERVING = "Serving"
    SCALED_TO_ZERO = "ScaledToZero"

    INSPECTING = "Inspecting"
    INSPECTION_FAILED = "InspectionFailed"
    DOWNLOADING = "Downloading"
    DOWNLOADED = "Downloaded"
    IN_PLACE = "InPlace"
    WAITING_FOR_VOLUME = "WaitingForVolume"

    LOADING_ADAPTERS = "LoadingAdapters"
    ADAPTERS_LOADED = "AdaptersLoaded"

    FITS = "Fits"
    FIT_UNKNOWN = "FitUnknown"

    STARTING = "Starting"
    ROLLING_OUT = "RollingOut"
    RESTORING = "Restoring"
    NOT_ANSWERING = "NotAnswering"
    NO_SERVER = "NoServer"

    NAME_CONFLICT = "NameConflict"
    REFERENCE_NOT_FOUND = "ReferenceNotFound"
    OPERATOR_ERROR = "OperatorError"

    # Events only.
    RESTORED = "Restored"
    SERVER_STOPPED = "ServerStopped"
