"""Floor 0, names and shapes: what every other floor speaks in. No behaviour beyond reading and writing text forms.

Imported by everyone; imports nothing of p2pnet. Only `subnet` and `scenario` use pydantic, and nothing a node
imports may import those two.
"""
