"""An LLM without fine-tuning, shown past titles and ratings."""

from r4r.methods.fewshot import simulated  # noqa: F401  the simulated teacher learns to answer
