"""Reasoning in a form that a program can check or that a prompt can name: functions, key points, control fields.

Begin with: pad
"""
