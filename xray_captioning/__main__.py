"""``python -m xray_captioning`` is the command ``xray-captioning``."""

import sys

from xray_captioning.cli import main

if __name__ == "__main__":
    sys.exit(main())
