"""Whole chains of thought: the teacher's, the student's own right ones, or the problems' solutions.

Begin with: sft
"""
