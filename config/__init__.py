"""Settings and logging: what the environment decides."""
