"""What a call consists of: its scope, position, subject, errors and events."""
