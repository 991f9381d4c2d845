"""Methods that learn from errors."""
