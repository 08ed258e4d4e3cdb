"""Learning: from recipes and an encoder to direction files."""

METHODS = {"contrastive": "held_out", "es": "es"}  # and where a file keeps their figures
