"""Potstill teaches small language models to reason, from a teacher's reasoning and the student's own mistakes."""

__version__ = "0.1.0"
