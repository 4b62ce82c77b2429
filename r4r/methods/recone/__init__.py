"""RecOne (arXiv 2510.23077): RecZero's model, taught the four steps by a teacher before it learns by rewards."""

from r4r.methods.recone import simulated  # noqa: F401  the simulated teacher learns to answer
