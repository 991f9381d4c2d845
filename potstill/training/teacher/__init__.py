"""The teacher of a training: local, remote, of another tokenizer, or as cached logits."""
