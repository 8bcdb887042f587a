"""The gRPC services, and the edge that all their calls pass."""
