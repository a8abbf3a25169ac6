"""What the lab keeps with its nodes: links, clocks, events, and how they are."""
