"""OpenAI's API, for one model that generates text (PROTOCOL.md, OpenAI's API)."""
