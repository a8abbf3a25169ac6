"""How long a test waits for what comes when it comes: a bound against hanging, for a machine of any load."""

PATIENCE_S = 120.0
"""Seconds; a test that needs the half of it on an idle machine says its own. Below the timeout of pytest in pyproject.toml."""
