"""Networks that are known by name: where their weights are, what pixels they take, what their layers are called."""

from __future__ import annotations

from .network import NETWORKS, Network, NetworkCard, load_network

__all__ = ["NETWORKS", "Network", "NetworkCard", "load_network"]
