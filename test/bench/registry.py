"""The registry: heartbeats end to end, node selection inside one backend, detection of dead nodes."""

import beats
import detection
import selection


def main():
    beats.main()
    selection.main()
    detection.main()


main()
