"""What is known is told apart from what is concluded: quotes of a context, or facts of one's own, then the reasoning.

Begin with: llmquoter
"""
