"""Connectors: what any acquirer must do, and what a connector makes of a broken one."""
