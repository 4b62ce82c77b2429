"""Multi-step deliberation: summarise, reason, predict, each by an expert of its own (paper section 3)."""

from r4r.config import Config
from r4r.stages.predict import predictions_stage
from r4r.stages.stage import Stage


def stages(config: Config) -> Stage:
    """The last stage, the predictions; it names all that it depends on."""
    return predictions_stage(config)
