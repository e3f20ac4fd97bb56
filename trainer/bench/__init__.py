"""Measuring programs of reading and training; `headrace bench read` starts them."""
