"""The Stepwave server: runs workflows, keeps their events, and streams them over gRPC."""
