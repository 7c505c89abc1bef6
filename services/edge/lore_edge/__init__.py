"""Lore's edge: turns chunks into server-sent events and acknowledgments into window moves."""
