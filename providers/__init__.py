"""What the providers say, turned into the hub's values; knows nothing of the hub."""
