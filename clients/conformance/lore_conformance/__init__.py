"""Checks a client of Lore's streams against edges that misbehave by script."""
