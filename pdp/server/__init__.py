"""The service's edge: gRPC and HTTP."""
