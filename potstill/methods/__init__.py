"""The methods, one file a paper. A new one is a file and a line here; a test proves that folder and list agree."""

from potstill.methods.orion import orion
from potstill.methods.rft import rft
from potstill.methods.sft import sft

METHODS = {
    "orion": orion,
    "rft": rft,
    "sft": sft,
}
