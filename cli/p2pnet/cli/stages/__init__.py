"""Where scenarios run: `scenario.Stage` for a subnet of a live target, and for a simulated one."""
