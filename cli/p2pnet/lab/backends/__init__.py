"""Where a lab's nodes run: as processes of this machine, or in pods."""
