"""Faithful reasoning by selection and inference (arXiv:2208.14271)."""
