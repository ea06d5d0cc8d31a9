"""
Values shown to people: safe text, and HTML for notebooks.

Knows nothing of vaults: whoever has something to show hands over texts. Loads
nothing, asks nobody.
"""
