"""Who finds whom, and who may come: Services, network policies, the PodMonitor."""

from __future__ import annotations

from deploy.kubernetes.placed import HTTP_PORT, PORTS, Placed
from deploy.kubernetes.volumes import Json
from deploy.kubernetes.workloads import manifest

_DNS = 53
_NAMESPACE = "kubernetes.io/metadata.name"


def service(server: str, placed: Placed) -> Json:
    """Headless: a client's connection goes to the one pod itself, also while it says that its disk is full."""
    spec: Json = {
        "clusterIP": "None",
        "publishNotReadyAddresses": True,
        "selector": placed.labels(server),
        "ports": [
            {"name": server, "port": PORTS[server], "targetPort": server},
            {"name": "http", "port": HTTP_PORT, "targetPort": "http"},
        ],
    }
    return manifest("v1", "Service", placed, server, spec=spec)


def deny_all(placed: Placed) -> Json:
    """Nothing comes to a pod of the collection, and nothing leaves it, that no other policy lets through."""
    spec: Json = {"podSelector": {"matchLabels": placed.labels()}, "policyTypes": ["Ingress", "Egress"]}
    return manifest("networking.k8s.io/v1", "NetworkPolicy", placed, "deny-all", spec=spec)


def allow_server(server: str, placed: Placed) -> Json:
    """Producers reach its port, Prometheus its metrics. A server itself goes nowhere."""
    producers = {"podSelector": {"matchLabels": placed.labels("producer")}}
    prometheus = {"namespaceSelector": {"matchLabels": {_NAMESPACE: placed.settings.prometheus_namespace}}}
    spec: Json = {
        "podSelector": {"matchLabels": placed.labels(server)},
        "policyTypes": ["Ingress"],
        "ingress": [
            {"from": [producers], "ports": [{"protocol": "TCP", "port": server}]},
            {"from": [prometheus], "ports": [{"protocol": "TCP", "port": "http"}]},
        ],
    }
    return manifest("networking.k8s.io/v1", "NetworkPolicy", placed, f"{server}-clients", spec=spec)


def allow_producers(servers: list[str], placed: Placed) -> Json:
    """They ask for names, and go to the servers; nowhere else."""
    dns = {
        "to": [{"namespaceSelector": {"matchLabels": {_NAMESPACE: "kube-system"}}}],
        "ports": [{"protocol": protocol, "port": _DNS} for protocol in ("UDP", "TCP")],
    }
    to_servers = [
        {
            "to": [{"podSelector": {"matchLabels": placed.labels(server)}}],
            "ports": [{"protocol": "TCP", "port": PORTS[server]}],
        }
        for server in servers
    ]
    spec: Json = {
        "podSelector": {"matchLabels": placed.labels("producer")},
        "policyTypes": ["Egress"],
        "egress": [dns, *to_servers],
    }
    return manifest("networking.k8s.io/v1", "NetworkPolicy", placed, "producers-egress", spec=spec)


def disruption_budget(placed: Placed) -> Json:
    """A node with the sink is not drained without being asked; one whose sink is not well may be."""
    spec: Json = {
        "maxUnavailable": 0,
        "unhealthyPodEvictionPolicy": "AlwaysAllow",
        "selector": {"matchLabels": placed.labels("sink")},
    }
    return manifest("policy/v1", "PodDisruptionBudget", placed, "sink", spec=spec)


def pod_monitor(placed: Placed, servers: list[str]) -> Json:
    """For the Prometheus operator; a cluster without it does not know this kind."""
    chosen = {"key": "app.kubernetes.io/component", "operator": "In", "values": servers}
    spec: Json = {
        "selector": {"matchLabels": placed.labels(), "matchExpressions": [chosen]},
        "podMetricsEndpoints": [{"port": "http", "path": "/metrics", "interval": "15s", "scrapeTimeout": "10s"}],
    }
    return manifest("monitoring.coreos.com/v1", "PodMonitor", placed, None, spec=spec)
