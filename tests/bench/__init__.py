"""What the operator costs, measured on its real process against a fake Kubernetes API in another process."""
