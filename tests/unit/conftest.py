"""Property tests are not timed: the machine that runs them may be busy."""

from __future__ import annotations

from hypothesis import HealthCheck, settings

settings.register_profile("firestate", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("firestate")
