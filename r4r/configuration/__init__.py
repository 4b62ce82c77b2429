"""The settings of a job: typed schemas of the config groups."""
