"""Learning: from recipes and an encoder to direction files."""

from safegen.safeguards import REGISTRY

# What can be learned, and where a file keeps its figures.
METHODS = {"contrastive": "held_out"} | {way: name for name, method in REGISTRY.items() for way in method.learn}
# The methods that learn a weight edit of a denoiser: in closed form, by a function, or step by step, by an objective.
TUNED = {name: method.tune for name, method in REGISTRY.items() if method.tune}
EDITS = {name: method.edit for name, method in REGISTRY.items() if method.edit} | TUNED
