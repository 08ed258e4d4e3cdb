"""The bench: every figure of the README comes from a command here."""
