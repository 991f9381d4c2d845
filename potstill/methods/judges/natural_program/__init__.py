"""Natural Program, chains whose steps cite their premises and are checked one by one (arXiv:2306.03872)."""
