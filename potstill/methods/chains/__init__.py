"""Whole chains of thought, the teacher's or the student's own right ones.

Begin with: sft
"""
