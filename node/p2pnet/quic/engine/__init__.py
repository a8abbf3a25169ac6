"""The sans-IO engine: datagrams and time in, datagrams and events out."""
