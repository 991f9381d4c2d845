"""Chains that a search has found: many candidates are written and scored, and the best one is learnt.

Begin with: reer
"""
