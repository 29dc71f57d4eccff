"""APR in the trainers of others: Lightning, timm and torchdata."""
