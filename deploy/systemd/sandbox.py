"""What each program may reach: as little as it was seen to need (tests/systemd runs them under these settings)."""

from __future__ import annotations

from deploy.roles import Role

Settings = list[tuple[str, str]]

# Work in every manager, also a user's, which cannot make file systems for its units.
_ANYWHERE: Settings = [
    ("NoNewPrivileges", "yes"),
    ("RestrictAddressFamilies", "AF_UNIX AF_INET AF_INET6 AF_NETLINK"),
    ("RestrictNamespaces", "yes"),
    ("RestrictRealtime", "yes"),
    ("RestrictSUIDSGID", "yes"),
    ("LockPersonality", "yes"),
    ("SystemCallArchitectures", "native"),
    ("SystemCallFilter", "@system-service"),
    ("SystemCallFilter", "~@privileged"),
    ("SystemCallErrorNumber", "EPERM"),
    ("UMask", "0027"),
]
_SYSTEM: Settings = [
    ("CapabilityBoundingSet", ""),
    ("AmbientCapabilities", ""),
    ("ProtectSystem", "strict"),
    ("PrivateTmp", "yes"),
    ("PrivateIPC", "yes"),
    ("ProtectKernelTunables", "yes"),
    ("ProtectKernelModules", "yes"),
    ("ProtectKernelLogs", "yes"),
    ("ProtectControlGroups", "yes"),
    ("ProtectClock", "yes"),
    ("ProtectHostname", "yes"),
    ("ProtectProc", "invisible"),
    ("KeyringMode", "private"),
    ("RemoveIPC", "yes"),
]
_GPU: Settings = [
    ("SupplementaryGroups", "render video"),
    ("DevicePolicy", "closed"),
    ("DeviceAllow", "char-drm rw"),
    ("DeviceAllow", "char-nvidia rw"),
    ("DeviceAllow", "char-nvidia-frontend rw"),
    ("DeviceAllow", "char-nvidia-uvm rw"),
    ("DeviceAllow", "char-nvidia-caps rw"),
    ("DeviceAllow", "char-kfd rw"),
]


def sandbox(role: Role, user_manager: bool, homes: bool) -> Settings:
    """homes: something that the program reads or writes is below /home or /root."""
    settings = list(_ANYWHERE)
    if role.kind == "sink":
        # Drawing on a CPU and torch make machine code while they run; the sink does not.
        settings.append(("MemoryDenyWriteExecute", "yes"))
    if user_manager:
        return settings
    settings += _SYSTEM
    settings.append(("ProtectHome", "read-only" if homes else "yes"))
    if role.kind == "sink":
        # The others read /proc/cpuinfo or /proc/meminfo.
        settings.append(("ProcSubset", "pid"))
    return settings + (_GPU if role.resources.gpus else [("PrivateDevices", "yes")])
