"""Explain-based distillation: plans from editorials, programs by a coder (arXiv:2404.08148)."""
