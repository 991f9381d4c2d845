"""What runs inside the sandbox: the candidate's side and the tests' side, in two processes that share one socket.

Standard library only: these files are bound into the sandbox alone, without the rest of the package.
"""
