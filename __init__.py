"""Regatta: regression models trained on CSV files by a multiprocessing parameter server.

This module imports the standard library only: every worker process imports it.
"""

__version__ = "0.1.0"
