"""`headrace bench infer`: the inference server against the model alone, and against other servers."""
