"""Floor 4, the command line: verbs -> commands -> reports -> drawings. Imported by nobody; start it as `p2pnet`.

`verbs/` declares arguments, `commands/` does the work and returns documents, `targets/` finds subnets,
`render.py` draws, `progress.py` listens. Heavy imports happen inside the verbs: `p2pnet --help` stays quick.
"""
