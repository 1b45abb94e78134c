"""Solvers: how the optimum of an objective is sought."""
