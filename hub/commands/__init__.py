"""The commands of `partyline`, a module each; what they import to do their work they import when they do it."""
