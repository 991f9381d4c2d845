"""REER, reverse-engineered reasoning (arXiv:2509.06160)."""
