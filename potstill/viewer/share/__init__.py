"""`potstill view RUN --share OUT`: the same pages as a copy that needs no server; what it holds, packing, writing."""
