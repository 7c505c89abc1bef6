"""Lore's generator: turns questions into chunks and owns the model."""
