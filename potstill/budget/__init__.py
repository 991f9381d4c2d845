"""What a run may spend and what it pays: limits, reservations and prices."""
