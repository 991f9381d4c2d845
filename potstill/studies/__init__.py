"""Prepared comparisons, end to end, a file each; they may import everything below the command line."""
