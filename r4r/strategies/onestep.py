"""One model writes the reason and the rating, or every step, in one answer (paper 4.3.1, Figure 4)."""

from r4r.config import Config
from r4r.stages.deliberate import deliberated_predictions_stage
from r4r.stages.stage import Stage


def stages(config: Config) -> Stage:
    """The last stage, the predictions; it names all that it depends on."""
    return deliberated_predictions_stage(config)
