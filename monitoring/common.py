"""What dashboards share besides queries."""

from __future__ import annotations

from monitoring.grafana import Annotation, Variable
from monitoring.queries import CLUSTER, selector

CLUSTERS = Variable("cluster", "Cluster", "label_values(camfleet_gateway_time_seconds, cluster)", multi=False)
"""Empty where series have no such label."""

ANY_JOB = Variable(
    "job",
    "Job",
    f'label_values({{__name__=~"camfleet_gateway_time_seconds|camfleet_operator_leader", {CLUSTER}}}, job)',
    all_value=".+",
)
GATEWAY_JOB = Variable(
    "job", "Job", f"label_values(camfleet_gateway_time_seconds{{{CLUSTER}}}, job)", all_value=".+"
)

MOVES = selector("camfleet_operator_moves_total")
MOVED = Annotation(
    "Moves", f"sum by (reason) (increase({MOVES}[1m])) > 0", "Workers moved: {{reason}}", color="orange"
)
