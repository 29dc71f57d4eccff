"""The commands `apr-dali analyze …`, a module each.

A module NAME has `TEXT`, a line of help, `add(parser)`, which declares the arguments, and `run(args)`, which does the
work and prints where the results are. It imports nothing heavy at the top: `apr-dali --help` reads them all.
"""

NAMES: tuple[str, ...] = ("heatmap", "bands", "labels", "swap", "templates", "tsne", "gradcam", "filters", "gallery")
