"""The evaluation engine beside lm-evaluation-harness's own model."""
