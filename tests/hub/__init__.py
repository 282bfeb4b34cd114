"""A hub on this machine: serves folders as model repositories by the protocol of the Hugging Face hub.

Standard library only, so that it also runs in a bare pod for the demo and the end-to-end tests.
"""

from tests.hub.faults import Fault, Faults
from tests.hub.repos import Commit, HubFile, Repos
from tests.hub.server import Hub

__all__ = ["Commit", "Fault", "Faults", "Hub", "HubFile", "Repos"]
