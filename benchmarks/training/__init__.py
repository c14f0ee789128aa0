"""The training engine beside its peers."""
