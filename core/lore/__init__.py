"""Lore: AI answers as token streams that survive everything between the GPU and the reader."""
