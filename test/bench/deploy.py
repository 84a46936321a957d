"""Deployments: how fast an app comes up on many nodes, how many placements the controller makes a second, and what a release, or
the death of a node, costs those who use the app.
"""

import lost
import placement
import start
from cloud.app import package_of


def main():
    start.main()
    placement.placements(package_of)
    lost.main()


main()
