"""The sink: one daemon per dataset that receives episodes, commits them durably and acknowledges them."""
