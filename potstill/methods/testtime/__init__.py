"""Nothing, or little: these are solvers, which ask any student in more calls than one.

`potstill evaluate --solver NAME --model STUDENT` measures one beside the plain answers of the same student.

Begin with: subthoughts
"""
