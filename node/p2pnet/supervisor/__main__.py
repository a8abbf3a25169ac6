"""`python -m p2pnet.supervisor`: keeps the node processes of a lab."""

import sys

from p2pnet.supervisor.supervisor import main

if __name__ == "__main__":
    sys.exit(main())
