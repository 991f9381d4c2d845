"""How a model is asked for a program: the words that the papers of this folder share. Ours; the form is the papers'."""

from __future__ import annotations

# The example is ours, in the form of PaD's released ones: quantities by name, a comment a step, `result` at the end.
WRITE_PROGRAM = """\
Solve the question with a Python function `solution()` that takes nothing and returns the answer. Give each quantity \
of the question a name, say in a comment what each step computes, and write nothing but the function.

Question: Tea costs $4 a box, and 3 boxes or more are 25% cheaper. What do 6 boxes cost?
Solution:
def solution():
    boxes = 6
    price = 4
    discount = 0.25
    # The price of a box with the discount
    reduced_price = price * (1 - discount)
    # The price of all boxes
    total_price = boxes * reduced_price
    result = total_price
    return result

Question: {question}
Solution:
"""
