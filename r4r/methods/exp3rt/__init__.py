"""EXP3RT (arXiv 2408.06276): preferences, profiles of both sides, then reason and rating."""

from r4r.methods.exp3rt import simulated  # noqa: F401  the simulated teacher learns to answer
