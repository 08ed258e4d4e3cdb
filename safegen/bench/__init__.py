"""The bench: every figure of docs/bench.md comes from a command here."""
