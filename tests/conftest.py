"""Fixtures that every test may use."""

from hypothesis import HealthCheck, settings

pytest_plugins = [
    "tests.support.postgres",
    "tests.support.opa",
    "tests.support.stack",
]

# Machines stall for seconds: how long an example takes says nothing about the code.
settings.register_profile("placet", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("placet")
