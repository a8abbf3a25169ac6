"""Floor 0, names and shapes that several rooms share. No behaviour beyond reading and writing text forms.

Imported by every room; imports nothing of p2pnet. Only `subnet` and `scenario` use pydantic, and nothing a node
imports may import those two.
"""
