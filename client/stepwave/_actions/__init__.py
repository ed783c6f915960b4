"""What a module of actions needs. The server uses it too, so it knows no client."""
