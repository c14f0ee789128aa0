"""Token shards to checkpoints."""
