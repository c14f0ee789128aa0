"""Pretraining and finetuning: configuration, optimizer, schedule, step and loop."""
