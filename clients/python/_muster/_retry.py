"""Let a connect that the master refuses be tried again while this process is young.

A master may launch its workers first and bind its port then. Where the network cannot bridge that, this does. Loaded by
_runner.py. Valid in Python 2.7 and from 3.6 on.
"""

import errno
import os
import socket
import time

# Seconds in the life of a process for which a refused connect is tried again, and between two tries.
RETRY_SECONDS = 30.0
RETRY_PAUSE = 0.05


def install():
    """Replace socket.connect for the rest of the process."""
    masters = [os.environ[v] for v in ("CDSW_MASTER_IP", "CML_MASTER_IP") if os.environ.get(v)]
    clock = getattr(time, "monotonic", time.time)
    end = clock() + RETRY_SECONDS
    connect = socket.socket.connect

    def patient_connect(self, address):
        timeout = self.gettimeout()
        patient = isinstance(address, tuple) and address and address[0] in masters and timeout != 0
        last = end if timeout is None else min(end, clock() + timeout)
        # After a refusal, the kernel answers the next try on a socket with a timeout with "aborted", once.
        again = (errno.ECONNREFUSED, errno.ECONNABORTED)
        while True:
            try:
                return connect(self, address)
            except (OSError, socket.error) as e:
                if not patient or e.errno not in again or clock() + RETRY_PAUSE >= last:
                    if e.errno == errno.ECONNABORTED:
                        e = socket.error(errno.ECONNREFUSED, os.strerror(errno.ECONNREFUSED))
                    raise e
            time.sleep(RETRY_PAUSE)

    patient_connect.__name__ = "connect"
    patient_connect.__doc__ = connect.__doc__
    socket.socket.connect = patient_connect
