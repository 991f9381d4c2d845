"""ORION, error-aware self-reflection (arXiv:2505.22131 v2)."""
