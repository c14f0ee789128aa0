"""Memory, time and cost of a training run, before it is submitted."""
