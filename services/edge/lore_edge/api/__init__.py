"""Lore's own calls that need no speed, and the page."""
