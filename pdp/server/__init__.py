"""The edge: gRPC and HTTP, who calls, messages to values and back, failures to statuses."""
