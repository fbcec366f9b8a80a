"""Weights of other implementations: into our necks and back."""

from nasneck.peers.state import load_peer_state as load_peer_state
from nasneck.peers.state import peer_state as peer_state
