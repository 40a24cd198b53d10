"""Exit code 0 when a URL answers with success: the health check of a container that has no other tool for it."""

import sys

from devstack.temporal import responds

if __name__ == "__main__":
    sys.exit(0 if responds(sys.argv[1]) else 1)
