"""On-policy training: the student's own completions, their rewards, and statistics of a whole step."""
