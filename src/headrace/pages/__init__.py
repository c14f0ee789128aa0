"""Reports as single HTML files that need nothing else: markup, small charts, one style."""
