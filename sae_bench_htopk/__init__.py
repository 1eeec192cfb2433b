"""A benchmark of sparse autoencoders: one YAML suite in, a leaderboard of Pareto frontiers out."""

__version__ = "0.1.0"
