"""What modules of actions import: marks, contexts, failures. Shared with the server, so free of clients."""
