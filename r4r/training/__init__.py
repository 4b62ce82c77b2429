"""How the adapters of the experts are trained: experts, their objectives, and the LightningModule that trains them."""
