"""The commands `apr-dali analyze …`, a module each; see apr_dali.cli."""
