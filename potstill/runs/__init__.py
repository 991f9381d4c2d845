"""A run: a recipe's arms driven, trained, measured, and told in results."""
