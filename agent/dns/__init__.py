"""Names of the fabric's containers, answered on this host."""
