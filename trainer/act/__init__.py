"""ACT, Action Chunking with Transformers (Zhao et al., 2023, arXiv 2304.13705): model, training, serving a policy."""
