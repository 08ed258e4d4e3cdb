"""Pictures as files: those that somebody brings are untrusted, and those that we write say what they are."""
