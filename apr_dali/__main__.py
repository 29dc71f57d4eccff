"""`python -m apr_dali` is `apr-dali`."""

import sys

from apr_dali.cli import main

if __name__ == "__main__":
    sys.exit(main())
