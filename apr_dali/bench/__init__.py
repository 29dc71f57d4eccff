"""What augmentations cost: images a second, time and memory of loaders, measured side by side."""
