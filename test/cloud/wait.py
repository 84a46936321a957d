"""Waiting for a condition with a cap. The only place of the Python tests where time passes idly."""

import time

import psycopg

NOT_YET = (psycopg.OperationalError, psycopg.InterfaceError, OSError)


def wait_until(description, probe, timeout=20.0, until=bool, interval=0.05):
    """Calls probe until until(value) holds and returns that value.

    A server or socket that is not there counts as "not yet"; any other exception goes through.
    On time-out the error names the description and the last value or exception seen.
    """
    deadline = time.monotonic() + timeout
    while True:
        try:
            value = probe()
            if until(value):
                return value
            last = repr(value)
        except NOT_YET as error:
            last = f"{type(error).__name__}: {error}"
        if time.monotonic() >= deadline:
            raise TimeoutError(f"{description}: not within {timeout:g} s; last value {last}")
        time.sleep(interval)
