"""Who asks: API keys, JWTs, and stream tokens for what cannot send a header."""
