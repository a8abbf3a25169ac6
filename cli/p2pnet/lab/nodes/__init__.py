"""What the lab keeps with the nodes: links, clocks, events, and how they are."""
