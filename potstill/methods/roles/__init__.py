"""One part of the work, such as planning, explaining or checking; another model does the rest.

Begin with: explain
"""
