"""From the store's messages to the bytes of each reader."""
