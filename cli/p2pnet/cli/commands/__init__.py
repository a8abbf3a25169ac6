"""The work behind the verbs: `run(options, session) -> Outcome`. No drawing, no exit, no typer."""
