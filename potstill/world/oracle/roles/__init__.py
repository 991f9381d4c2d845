"""The roles of the oracle, one file each, named after the role; `potstill.world.oracle` says what holds for them."""
