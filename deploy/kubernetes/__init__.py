"""A collection on Kubernetes: manifests for kustomize, made from the roles of a topology. Not run in a cluster."""
