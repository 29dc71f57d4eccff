"""The paper's tables and figures as runs of the public commands: what to train, what to evaluate, what to compare."""
