"""Manifests as they should be, one file for each example of the CRD."""
