"""SuperCorrect: hierarchical thought templates and cross-model preference on a first wrong step (arXiv:2410.09008)."""
