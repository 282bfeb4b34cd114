"""From `kubectl apply` to what a user sees, on the real node with the operator installed by its chart."""
