"""The rules, as pure functions over values: no input, no output, no clock of its own."""
