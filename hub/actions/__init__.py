"""The verbs: one function each, inside one transaction of its caller, touching no network."""
