"""A cluster of two nodes on this machine, one CPU each, as a program of its own.

A process that was connected to Ray keeps settings of that connection, so a cluster starts in one that never was.

Prints the address and the process ids of the two nodes' raylets as JSON. ``remove`` on standard input takes the second
node away at once; the end of the input takes down everything.
"""

from __future__ import annotations

import json
import sys
from typing import Any

from ray.cluster_utils import Cluster


def raylet(node: Any) -> int:
    return node.all_processes["raylet"][0].process.pid


def main() -> None:
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    try:
        second = cluster.add_node(num_cpus=1)
        cluster.wait_for_nodes()
        raylets = [raylet(cluster.head_node), raylet(second)]
        print(json.dumps({"address": cluster.address, "raylets": raylets}), flush=True)
        for line in sys.stdin:
            if line.strip() == "remove":
                cluster.remove_node(second, allow_graceful=False)
    finally:
        cluster.shutdown()


if __name__ == "__main__":
    main()
