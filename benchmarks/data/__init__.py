"""The data engine beside its peers."""
