"""The HTTP edge: what shops and browsers speak to."""
