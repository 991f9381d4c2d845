"""ELAD: a student's own doubts choose the problems, and a teacher revises its reasoning there."""
