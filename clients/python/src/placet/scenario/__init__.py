"""Scenarios: what a policy decision point is asked, in order, and what it must answer, as YAML.

Needs the extra `placet[cli]`. docs/scenarios.md describes the format. Calls go through gRPC alone.
"""
