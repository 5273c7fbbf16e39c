"""A store that an older release has filled, used by this one."""
