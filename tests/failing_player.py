"""A module in place of a player of games, whose process fails; the name of the game says how."""

import errno
import os
import signal
import sys

if __name__ == "__main__":
    if sys.argv[1] == "full":
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    os.kill(os.getpid(), signal.SIGKILL)
