"""`headrace bench read`: how fast the dataset is read, against what one would use instead."""
