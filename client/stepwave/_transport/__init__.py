"""gRPC calls, asynchronous and blocking, behind one interface."""
