"""Wrong attempts: what is wrong in them, and what is right instead.

Begin with: orion
"""
