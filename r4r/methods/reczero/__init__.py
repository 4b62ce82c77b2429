"""RecZero (arXiv 2510.23077): one model learns by rewards alone to reason in four steps, the last of which rates."""
