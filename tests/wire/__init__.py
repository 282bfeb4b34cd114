"""A Kubernetes API at the wire, in memory: enough for the client, the reconcile loop and kopf's watches."""
