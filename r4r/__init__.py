"""r4r: deliberative recommendation (Reason4Rec) as a Hydra-configured experiment framework."""

__version__ = "0.1.0"
