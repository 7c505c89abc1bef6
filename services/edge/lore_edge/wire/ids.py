"""The ids of requests."""

REQUEST_ID = r"[A-Za-z0-9_-]{22}"
"""128 random bits, in base64url."""
