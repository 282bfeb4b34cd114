"""A real Kubernetes node on this machine, from source: no image registry, no virtual machine, no mocks.

`python -m tests.cluster up` brings it up, `down` leaves nothing behind; README.md beside this file says what runs where.
"""
