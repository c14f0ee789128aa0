"""GPT-J: the model, its masks, generation, and conversion to and from transformers."""
