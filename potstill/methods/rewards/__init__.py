"""Its own texts, each by what it is worth: a verdict, a form, a length, how likely it makes the gold answer.

Begin with: shorterbetter
"""
