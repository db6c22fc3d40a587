"""Run one file of tests in a process of its own, and print what pytest did only if it failed."""

import subprocess
import sys

NO_TESTS = 5


def main() -> int:
    """Return 1 where a test failed: xargs goes on with the other files, and fails at the end."""
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *sys.argv[1:]]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode in (0, NO_TESTS):
        return 0
    print(done.stdout, done.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main())
