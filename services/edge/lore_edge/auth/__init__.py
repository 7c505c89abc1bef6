"""Authentication: API keys, JWTs, and stream tokens for clients that cannot send a header."""
