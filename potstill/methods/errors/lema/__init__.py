"""LEMA, learning from mistakes that were found, explained and corrected (arXiv:2310.20689 v4)."""
