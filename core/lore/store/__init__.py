"""The store: what Lore keeps, and the only code that talks to Valkey."""
