"""Chains of components, one file each; copy one and edit it."""
