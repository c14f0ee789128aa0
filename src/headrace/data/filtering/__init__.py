"""Which documents are not trained on: duplicates, and what overlaps with evaluation data."""
