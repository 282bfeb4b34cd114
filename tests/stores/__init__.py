"""Servers on this machine that speak the protocols of model stores: S3 (moto), Google Cloud Storage, ModelScope."""
