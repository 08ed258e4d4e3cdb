"""Pictures that somebody brings: read as untrusted files, and handed to a model as it wants them."""
