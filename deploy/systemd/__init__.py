"""A collection under systemd: units made from the roles of a topology."""
