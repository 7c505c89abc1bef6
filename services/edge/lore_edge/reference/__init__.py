"""The description of the API: the document, and its page for people."""
