"""Chains of the problems that are worth a teacher's call, chosen by what the student can't do yet.

Begin with: elad
"""
