"""Small arithmetic problems of reasoning-gym for a pretrained student, with chains that programs write.

`problems.py` makes the problems, in splits that share none. `styles.py` writes the chains. `teacher.py` is the model
`world:gym-teacher`. What a question requires is in `potstill/verifiers/equations/`, one file a family.
"""
