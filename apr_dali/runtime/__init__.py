"""What every command of this package runs in: processes, signals, files, checkpoints, the machine."""
