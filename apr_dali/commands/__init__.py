"""What the commands of `apr-dali` do with the rooms below: networks and data sets in, tables and files out."""
