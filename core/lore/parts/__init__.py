"""The typed parts of an answer: text, reasoning, and calls of tools.

They are derived from the answer's text, which is all that a log has: whoever has read the same
text has the same parts, on any edge and after any cut. Standard library alone, and no I/O.
"""
