"""Floor 5, the supervisor: keeps node processes, one by one or in packs, on this machine or in a pod.

Read `supervisor` (the loop) with `table` (what it knows of each node) and `processes` (how they are started and heard);
for pods `pod` (PID 1), `agent_process` and `agent` (who answers the lab there).
"""
