"""Floor 3, peering: which peers a node knows and dials, and which connections become links.

`discovery` answers who the peers are and where, fed by a registry or by signed `records`; `bootstrap` finds the first ones by
`seeds`, `record_exchange` the others. `dial_policy` decides whom to dial when and which connection stays; `dialer` and
`peers` execute it.
"""
