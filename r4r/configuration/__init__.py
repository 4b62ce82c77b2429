"""The settings of a job: schemas, the command line and its overrides, and every fault in them told as a sentence."""
