"""Where images come from: folders, tar files, file lists, the built-in sample, and the search for bad files."""
