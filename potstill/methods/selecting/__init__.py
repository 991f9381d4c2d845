"""Chains of the problems that are worth a teacher's call, and those of its texts that are worth learning.

Begin with: elad
"""
