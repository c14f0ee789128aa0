"""Versions to endpoints."""
