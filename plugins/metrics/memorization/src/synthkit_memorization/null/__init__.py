"""What innocent images look like: margins and cuts from real people, who cannot have been copied."""
