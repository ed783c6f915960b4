"""The files that the settings name, and the file of settings itself."""
