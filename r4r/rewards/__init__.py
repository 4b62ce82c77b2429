"""What an answer of a model that trains is worth: one class a component, one YAML in `conf/reward`."""
