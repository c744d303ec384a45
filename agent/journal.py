"""What this host does with the addresses it was given, on disk: an fsynced journal."""
