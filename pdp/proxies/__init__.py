"""Adapters around a port: the ports of the pipeline, measured."""
