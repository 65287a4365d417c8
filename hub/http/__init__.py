"""The HTTP edge: provider ingress, adapter API, health."""
