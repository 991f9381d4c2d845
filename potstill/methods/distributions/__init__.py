"""What a teacher says of every next token, not its texts alone: its distribution, or how likely it finds the student's.

Begin with: gkd
"""
