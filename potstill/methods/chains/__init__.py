"""Methods that learn from whole chains of thought."""
