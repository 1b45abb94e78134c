"""Runs: their states, directories, metrics, the store that lists them and the supervisor."""
