"""The model registry, read and written."""
