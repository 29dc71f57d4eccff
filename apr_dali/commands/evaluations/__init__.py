"""The commands `apr-dali eval …`, a module each; see apr_dali.cli."""
