"""The decorator, context and errors of actions. The server uses them too, so they import no client."""
