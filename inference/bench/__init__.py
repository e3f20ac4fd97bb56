"""Programs that `headrace bench infer` starts."""
