"""Nodes without components, for work on the components themselves: `python -m infra.local up|run|down`.

up NAME [WORKERS]        boot a control-plane node and WORKERS workers
run NAME NODE USER CMD…  run a command in a node as root or sampan
down NAME                take it all away
"""

from __future__ import annotations

import os
import sys

from infra.install import steps
from infra.local import lab
from infra.local.control import Control
from infra.local.layout import Layout
from infra.topology import Topology


def main() -> None:
    match sys.argv[1:]:
        case ["up", name, *workers]:
            topology, control = lab.nodes_up(Topology(name=name, workers=int(workers[0]) if workers else 0), print)
            for node in topology.nodes:
                steps.prepare_node(control.shell(node.name), topology, node)
            print("booted:", ", ".join(node.name for node in topology.nodes))
        case ["run", name, node, user, *command]:
            line = Control(Layout(name)).shell(node).line(command or ["/bin/bash"], user=user)
            os.execvp(line[0], line)
        case ["down", name]:
            lab.down(name)
        case _:
            sys.exit(__doc__)


if __name__ == "__main__":
    main()
