"""The index of a run: what its lists are filtered, sorted, counted and searched by. It may be deleted at any time."""
