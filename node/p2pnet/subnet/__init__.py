"""Floor 2, the Subnet document: what a person writes, the same on every target, and every rule about it.

| module | rule |
| --- | --- |
| spec, quantities | shapes, defaults, units |
| reading | one Subnet out of a YAML or JSON text, as kubectl reads it |
| checks | contradictions that shapes cannot express |
| document | reading and writing a checked document |
| support | which fields a target cannot honour, and the document without them |
| edits | what an edit changes, and who can take it |
| members | members, packs, topology, edges, versions of the registry |
| node_config | what a node process is told |
| expiry | when a ttl ends |
| pods | why a pod does not come up |

For lab, operator, sim and cli; never for a node, which starts without pydantic.
"""
