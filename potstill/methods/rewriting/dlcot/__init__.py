"""DLCoT (arXiv:2503.16385): long chains are taken apart, and what they say twice is taken out."""
