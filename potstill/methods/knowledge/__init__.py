"""Chains that tell what is known from what is concluded: quotes of a context, or facts of its own, then the reasoning.

Begin with: llmquoter
"""
