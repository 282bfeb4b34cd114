"""An operator that serves language models with vLLM on Kubernetes."""
