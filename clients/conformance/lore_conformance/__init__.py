"""Tests a client of Lore's streams against scripted edges that misbehave."""
