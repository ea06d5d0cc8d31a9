"""What a vault holds, shown to people as HTML and plots."""
