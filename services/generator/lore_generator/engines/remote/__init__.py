"""An engine that is a server of its own, driven over HTTP, unmodified (docs/engines.md)."""
