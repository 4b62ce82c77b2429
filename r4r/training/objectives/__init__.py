"""What an expert learns from, and by which loss: one file an objective, one YAML in `conf/objective`."""
