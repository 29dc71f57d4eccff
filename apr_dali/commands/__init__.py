"""What the commands of `apr-dali` do with the modules below: networks and data sets in, tables and files out."""
