"""Pages: run folders to HTML, Markdown and JSON."""
