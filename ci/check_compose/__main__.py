"""Checks compose/ without a container engine: one sentence per fault, and exit code 1 if there is any.

python ci/check_compose              checks the repository
python ci/check_compose --self-test  breaks the files in memory, one fault at a time, and demands that each is found
"""

import sys

import mutants
from checks import Check


def main():
    if sys.argv[1:] == ["--self-test"]:
        return mutants.run()
    if sys.argv[1:]:
        print(__doc__, file=sys.stderr)
        return 2
    faults = Check().run()
    print(*faults or ["compose/: no faults"], sep="\n")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
