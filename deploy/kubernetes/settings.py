"""The table of a topology that only Kubernetes manifests read."""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta

# RFC 1123 labels and subdomains, as Kubernetes checks them.
Label = Annotated[str, Meta(pattern=r"\A[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?\Z")]
Subdomain = Annotated[
    str, Meta(pattern=r"\A[a-z0-9]([a-z0-9-]*[a-z0-9])?(\.[a-z0-9]([a-z0-9-]*[a-z0-9])?)*\Z", max_length=253)
]
# Of an image; it is a label's value too, which has no mark at either end.
Tag = Annotated[str, Meta(pattern=r"\A[A-Za-z0-9]([A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?\Z")]
Image = Annotated[str, Meta(pattern=r"\A[a-z0-9][a-z0-9._:/-]*[a-z0-9]\Z", max_length=200)]
Resource = Annotated[str, Meta(pattern=r"\A[a-z0-9.-]+/[A-Za-z0-9_.-]+\Z")]


class KubernetesSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """namespace: that of the collection's name by default. image: IMAGE/ROLE:TAG are the images of deploy/docker.

    storage_gib, models_gib: of the volume claims for dataset and models [GiB]. storage_class: the cluster's default if
    none. gpu_resource: what a device plugin calls a GPU. prometheus_namespace: from where metrics may be scraped.
    """

    namespace: Label | None = None
    image: Image = "headrace"
    tag: Tag | None = None
    storage_gib: Annotated[int, Meta(ge=1)] = 100
    models_gib: Annotated[int, Meta(ge=1)] = 5
    storage_class: Subdomain | None = None
    gpu_resource: Resource = "nvidia.com/gpu"
    prometheus_namespace: Label = "monitoring"
