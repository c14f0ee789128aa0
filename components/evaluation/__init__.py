"""Checkpoints to reports and verdicts."""
