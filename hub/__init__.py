"""The hub: takes in, stores, fans out, answers."""
