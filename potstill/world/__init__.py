"""The built-in world: a tiny task, a real tokenizer, a real teacher and student, and the script that made them."""
