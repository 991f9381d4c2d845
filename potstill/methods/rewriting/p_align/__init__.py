"""P-ALIGN (arXiv:2601.10064): the shortest prefix of a teacher's reasoning that is enough for the student."""
