"""Floor 2, the Subnet document: what a person writes, the same on every target, and every rule about it.

| module | rule |
| --- | --- |
| spec, network_spec, pod_spec | shapes and defaults |
| names, quantities | names, keys, amounts, units, and words for wrong ones |
| reading | one Subnet out of a YAML or JSON text, as kubectl reads it |
| checks, network_checks, pod_checks, mistakes | contradictions that shapes cannot express, and words for them |
| document | reading and writing a checked document |
| support | which fields a target cannot honour, and the document without them |
| edits | what an edit changes, and who can take it |
| members | members, packs, topology, edges, versions of the registry |
| node_config | what a node process is told |
| network | what the links between members do: network_rules, placement, network_shapes; what is odd about it: network_notes |
| faults, fault_nodes | what is wrong with links and nodes, and with whom |
| fault_book, fault_processes | when faults begin and end, and how they want processes to be |
| selectors | which nodes are meant |
| expiry | when a ttl ends |
| pods | why a pod does not come up |

For lab, operator, sim and cli; never for a node, which starts without pydantic.
"""
