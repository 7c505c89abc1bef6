"""The typed parts of an answer: text, reasoning, and calls of tools.

They are derived from the answer's text alone, which is all that a log has. So every edge derives
the same parts, after any cut. Standard library alone, and no I/O.
"""
