"""The methods, one file a paper, in the folder of its family. A new one is a file; `discovery` says how it is found."""

from pathlib import Path

from potstill.methods.discovery import MethodFolders

METHODS = MethodFolders(Path(__file__).parent, __name__)
