"""How the adapters of the experts are trained: a LightningModule an expert, an objective, and Lightning's Trainer."""
