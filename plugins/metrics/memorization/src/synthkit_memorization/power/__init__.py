"""What the audit would have found: copies are planted, changed in known ways, searched for and counted."""
