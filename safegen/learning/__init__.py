"""Learning: from recipes and an encoder to direction files."""

# What can be learned, and where a file keeps its figures.
METHODS = {"contrastive": "held_out", "es": "es", "region": "region", "half-spaces": "region"}
