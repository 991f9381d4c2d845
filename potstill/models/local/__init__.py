"""Checkpoints on this machine: loading, prompts, batches, generation and log-probabilities."""
