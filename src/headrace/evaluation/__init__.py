"""Measuring checkpoints and deciding between them."""
