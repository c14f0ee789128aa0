"""Text to batches: documents, tokenizer, token shards, packing, denoising and the loader."""
