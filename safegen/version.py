"""The version, where nothing heavy is imported with it."""

__version__ = "0.1.0"
