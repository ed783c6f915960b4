"""The gRPC edge: servicers that parse, call and convert; errors to codes; who holds a run."""
