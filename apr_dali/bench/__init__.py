"""What augmentations cost: images per second, time and memory of loaders, measured side by side."""
