"""Training: options, losses, the engine that runs epochs, and the run folder."""
