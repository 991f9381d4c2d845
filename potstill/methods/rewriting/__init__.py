"""A teacher's reasoning, made to fit the student before it is learnt.

Begin with: p_align
"""
