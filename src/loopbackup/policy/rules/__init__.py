"""The rules that come with the library, and those of plug-ins."""
