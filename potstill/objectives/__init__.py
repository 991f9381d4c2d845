"""Pure functions of tensors that return the loss per counted position, unreduced."""
