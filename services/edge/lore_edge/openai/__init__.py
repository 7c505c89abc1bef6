"""The OpenAI API, as far as one model that writes text goes (PROTOCOL.md, OpenAI)."""
