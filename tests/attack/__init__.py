"""Attacks on real processes, over raw sockets."""
