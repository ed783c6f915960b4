"""The gRPC edge: servicers, requests, error statuses and the attachments of streams to runs."""
