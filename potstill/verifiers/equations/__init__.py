"""Steps of small arithmetic questions of reasoning-gym: what a question requires, and how far a text follows it.

One file a family reads its questions and says which equations they require, in order (`solution.py`). `families.py` is
the table. `follow.py` judges the equations of a text against them. Programs that write chains from the same solutions
are in `potstill/world/gym/`.
"""
