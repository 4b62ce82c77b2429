"""Rec-SAVER (arXiv 2408.00802): reasons that recover the rating teach a student to reason and rate."""

from r4r.methods.rec_saver import simulated  # noqa: F401  the simulated teacher learns to answer
