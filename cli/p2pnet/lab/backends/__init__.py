"""Where a lab's nodes run: in processes of this machine, or in pods."""
