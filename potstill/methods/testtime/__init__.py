"""Solvers: any student is asked in more calls than one, and nothing is trained, or little.

`potstill evaluate --solver NAME --model STUDENT` measures one beside the plain answers of the same student.

Begin with: subthoughts
"""
