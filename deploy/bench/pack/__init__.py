"""`headrace bench pack`: what packing a dataset costs and saves."""
