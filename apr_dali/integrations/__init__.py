"""APR in the trainers of others: Lightning and timm."""
