"""`potstill view`: run folders in the browser. API.md is the contract between the server and the pages.

Nothing here writes into a run but its notes, and nothing computes a measure: what is shown comes from `evaluation`,
`runs` and `report`. Lists and counts are answered from an index in the user's cache, which may be deleted at any time.
"""
