"""What a reader decides, pure: no I/O, no clock; the standard library only."""
