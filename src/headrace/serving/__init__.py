"""Answering over HTTP with a promoted version."""
