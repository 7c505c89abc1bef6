"""A reader's decisions, pure: no I/O, no clock, the standard library only."""
