"""RBD, a detector of biased choices that an evaluator chooses again by (arXiv:2505.17100)."""
