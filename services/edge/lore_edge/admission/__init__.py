"""What is checked before a request is accepted, and its creation."""
