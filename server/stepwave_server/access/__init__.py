"""The callers of the server, and their permissions."""
