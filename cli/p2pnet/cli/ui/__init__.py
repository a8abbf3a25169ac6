"""The live page of a subnet: a server on loopback that asks its lab, with the lab's own token, and shows what it hears."""
