"""Chains on other questions than those that are asked in the end, made by a program or a model.

Begin with: puzzle_warm_up
"""
